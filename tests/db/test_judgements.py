"""Judged pairs in the ledger: kept once, made anew, taken back, and gone with their digits."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from db import judgements
from db.judgements import Judgement, Said
from db.queue.delete import delete
from tests.makers import Ledger, digit_of, item, send, together


def said(one: str, other: str, same: bool | None, collection: str = "default") -> Said:
    return Said((collection, one), (collection, other), same)


def test_what_is_said_last_of_a_pair_stands(ledger: Ledger) -> None:
    send(ledger, *(item(key, seed) for seed, key in enumerate("abc")))
    a, b, c = (digit_of(ledger, key) for key in "abc")
    assert ledger(judgements.record, [said("b", "a", True), said("a", "c", True)], judged_by="me") == []
    assert ledger(judgements.pairs) == [Judgement(a, b, True), Judgement(a, c, True)]
    again = [said("a", "b", True), said("c", "a", None), said("b", "a", False)]
    assert ledger(judgements.record, again, judged_by="another") == []
    (listed,) = ledger(judgements.page, collection=None, after=0, limit=9)
    assert (listed.key, listed.other_key, listed.same, listed.judged_by) == ("a", "b", False, "another")
    assert abs(listed.judged_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_pair_without_two_stored_digits_is_left_out_and_the_rest_is_kept(ledger: Ledger) -> None:
    send(ledger, item("a", 1), item("b", 2))
    send(ledger, item("a", 3), collection="others")
    pairs = [said("a", "nothing", True), said("a", "a", True), Said(("default", "a"), ("others", "a"), False)]
    assert ledger(judgements.record, pairs) == [0, 1]
    (listed,) = ledger(judgements.page, collection="others", after=0, limit=9)
    assert (listed.collection, listed.other_collection, listed.judged_by) == ("default", "others", None)
    assert ledger(judgements.page, collection="nobody's", after=0, limit=9) == []


def test_a_digit_that_goes_takes_its_judgements_along(ledger: Ledger) -> None:
    send(ledger, *(item(key, seed) for seed, key in enumerate("abcd")))
    ledger(judgements.record, [said("a", "b", True), said("b", "c", False), said("c", "d", True)])
    assert ledger(delete, "default", ["b"]).judgements == 2
    send(ledger, item("d", 9))  # other pixels: what was said is not of them
    assert ledger(judgements.pairs) == []


def test_judging_and_deleting_at_once_end(ledger: Ledger) -> None:
    keys = [f"{at:02}" for at in range(40)]
    send(ledger, *(item(key, seed) for seed, key in enumerate(keys)))
    pairs = [said(one, other, True) for one, other in pairwise(keys)]
    left_out, backwards, _ = together(
        lambda: ledger(judgements.record, pairs),
        lambda: ledger(judgements.record, pairs[::-1]),
        lambda: ledger(delete, "default", keys[::2]),
    )
    assert {len(left_out), len(backwards)} <= {0, len(pairs)}
    assert ledger(judgements.pairs) == []
