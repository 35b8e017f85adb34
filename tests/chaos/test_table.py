"""The table of docs/reliability.md, written whole or in part."""

from dataclasses import replace

from tests.chaos.result import COLUMNS, Result, markdown, replaced

FIRST = Result(case=1, name="one", faults="a kill", images=1_000, lost=0, note="first note")
SECOND = Result(case=2, name="two", faults="a flood", note="second note")
TENTH = Result(case=10, name="ten", faults="a fire", problems=["1 lost: key"])


def test_a_case_that_ran_alone_replaces_its_own_row_and_notes() -> None:
    page = f"\n\nthe command\n\n{markdown([FIRST, SECOND, TENTH])}\n"
    again = [replace(SECOND, name="second"), replace(TENTH, problems=[], note="put out")]
    assert replaced(page, again) == f"\n\nthe command\n\n{markdown([FIRST, *again])}\n"


def test_a_case_that_was_not_there_gets_its_place() -> None:
    page = f"\n\nthe command\n\n{markdown([FIRST, TENTH])}\n"
    assert replaced(page, [SECOND]) == f"\n\nthe command\n\n{markdown([FIRST, SECOND, TENTH])}\n"


def test_what_was_not_counted_is_left_blank() -> None:
    cells = dict(zip(COLUMNS, FIRST.cells(), strict=True))
    assert (cells["digits"], cells["lost"], cells["twice"], cells["failed"]) == ("1,000", "0", "", "")
