"""What anybody called a key, a collection or a reason is shown as it is, and moves nothing on a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.commands import jobs
from cli.display import console
from cli.display.console import err, foreign, out, print_json, table
from cli.display.terminal_digits import Captioned, sheet
from cli.errors import explain
from tests.abuse.strings import OBEYED
from twinvec_client import Failure
from twinvec_client.errors import TwinvecError

SHOWN = {
    "cheque-17/3": "cheque-17/3",
    "\x1b[2J\x1b]52;c;cm0gLXJm\x07": r"\x1b[2J\x1b]52;c;cm0gLXJm\x07",  # clears the screen, sets the clipboard
    "a\x9b31mb": r"a\x9b31mb",  # the same introduced by one character of C1
    "a\nforged  finished": r"a\nforged  finished",
    "a\rforged": r"a\rforged",
    "a\u202egnp.exe": r"a\u202egnp.exe",  # from right to left
    "a\u2028b\u200bc\x7f\0": r"a\u2028b\u200bc\x7f\x00",
    "cheque:100:7": "cheque:100:7",  # rich would show the emoji
    "[/red]": "[/red]",
    "[bold]x[/]": "[bold]x[/]",
    "open [link=http://a.example": "open [link=http://a.example",
    "C:\\scans\\": "C:\\scans\\",
    "\\[red]\\\\": "\\[red]\\\\",
    "caf\udce9": r"caf\udce9",  # a file's name that is not UTF-8
    "数字/七": "数字/七",
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    """Both screens of the command, wide and without colours."""
    for screen in (out, err):
        monkeypatch.setattr(screen, "_color_system", None)
        monkeypatch.setattr(screen, "width", 400)
    return out


def printed(terminal: Console, what: Any) -> str:
    with terminal.capture() as captured:
        terminal.print(what, soft_wrap=isinstance(what, str))
    return captured.get()


@pytest.mark.parametrize(("key", "shown"), SHOWN.items(), ids=ascii)
def test_a_key_is_shown_as_it_is_in_tables_sentences_and_captions(terminal: Console, key: str, shown: str) -> None:
    rows = table("key", "", fold=("key",))
    rows.add_row(foreign(key), "|")
    assert printed(terminal, rows).split("\n")[3].rstrip().removesuffix("|").strip() == shown
    sentence = f"[red]{foreign(key)}[/]: ({foreign(key)}) [dim]{foreign(key)}|[/]"
    assert printed(terminal, sentence) == f"{shown}: ({shown}) {shown}|\n"
    caption = printed(terminal, sheet([Captioned(None, [foreign(key)])], terminal))
    assert "".join(caption.split()) == "".join(shown.split())


def test_a_list_of_failures_is_read_whatever_the_reasons_are(terminal: Console) -> None:
    unset: dict[str, Any] = {"attempts": 1, "label": None, "attributes": None, "is_glyph": False, "picture": None}
    anything: Any = "[/red]\x1b[2J"  # of another version, or of a row that somebody wrote
    failures = [Failure(key=key, reason=anything, message=key, **unset) for key in SHOWN]
    with terminal.capture() as captured:
        jobs._list_failures(failures)
    lines = captured.get().rstrip("\n").split("\n")
    assert [line.split()[0] for line in lines[3:] if line.strip()] == [shown.split()[0] for shown in SHOWN.values()]
    assert not any(each in captured.get() for each in OBEYED)


@pytest.mark.parametrize("obeyed", OBEYED, ids=ascii)
def test_what_no_command_has_looked_at_moves_no_cursor_either(terminal: Console, obeyed: str) -> None:
    rows = table("key")
    rows.add_row(f"a{obeyed}b")
    with terminal.capture() as captured:
        terminal.print(rows, f"a{obeyed}b")
        terminal.print(f"a{obeyed}b", markup=False)
    assert obeyed not in captured.get()


def test_json_holds_the_very_key_and_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([*SHOWN])
    printed = capsys.readouterr().out
    assert json.loads(printed) == [*SHOWN]
    assert not any(each in printed for each in OBEYED)
    assert "数字" in printed


def test_an_error_is_one_line_whatever_it_names(terminal: Console) -> None:
    sentence, _ = explain(TwinvecError("no digit \x1b[2Jx\ntwinvec: all is well [/red]"))
    with terminal.capture() as captured:
        terminal.print(f"[bold red]twinvec:[/] {foreign(sentence)}", soft_wrap=True)
    assert captured.get() == "twinvec: no digit \\x1b[2Jx twinvec: all is well [/red]\n"


def test_every_command_shows_foreign_strings_by_the_one_function() -> None:
    rooms = Path(console.__file__).parents[2]
    other = [
        str(file.relative_to(rooms))
        for file in (rooms / "cli").rglob("*.py")
        if file != Path(console.__file__) and "rich.markup" in file.read_text()
    ]
    assert other == [], "use cli.display.console.foreign"
