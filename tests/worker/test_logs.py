"""Logs: one line a record, as text or JSON, whatever strangers have a hand in; and the ids that a line is about."""

import io
import json
import logging
from collections.abc import Callable

import pytest

from worker.app import set_log_format
from worker.logs import TextFormatter, about, one_line

FORMAT = "%(asctime)s %(levelname)s %(message)s"
FORGED = "x\n2026-01-01 00:00:00,000 ERROR forged"
HOSTILE = [
    FORGED,
    "x\r\nforged",
    "x\u2028forged",
    "x\u0085forged",
    "x\x1b[2K\x1b[1Gforged",
    "x\x08\x08forged",
    "x\u202eforged",
    "x\ud800",
    "x\x00y",
    "x\vy\fz",
]


class Written:
    """A logger that was set up as Celery does it, and what it has written."""

    def __init__(self, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TWINVEC_LOG_FORMAT", format)
        self.stream = io.StringIO()
        self.log = logging.Logger("tasks.embed")
        self.log.addHandler(logging.StreamHandler(self.stream))
        set_log_format(logger=self.log, format=FORMAT)  # as Celery calls it

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Written]:
    return lambda format: Written(format, monkeypatch)


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_nothing_that_a_stranger_wrote_begins_a_line(
    written: Callable[[str], Written], hostile: str, format: str
) -> None:
    to = written(format)
    to.log.warning("no such key: %s", hostile)
    (line,) = to.lines
    assert line.isprintable()
    assert line.encode()


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_error_s_own_lines_are_none_of_the_log_s(written: Callable[[str], Written], format: str) -> None:
    to = written(format)
    try:
        raise ValueError(FORGED)
    except ValueError:
        to.log.exception("could not store job %s", 7)
    first, *others = to.lines
    assert "could not store job 7" in first
    assert all(line.startswith("    | ") for line in others)
    assert any("forged" in line for line in to.lines)
    assert bool(others) is (format == "text")


def test_a_line_of_json_has_what_it_is_about_as_fields(written: Callable[[str], Written]) -> None:
    to = written("json")
    to.log.info("embedded %d digits", 3, extra=about(job="0b9f", batch=7, level="forged", tower=None))
    (line,) = map(json.loads, to.lines)
    assert {name: line[name] for name in ("job", "batch", "message", "level", "logger")} == {
        "job": "0b9f",
        "batch": 7,
        "message": "embedded 3 digits",
        "level": "INFO",
        "logger": "tasks.embed",
    }
    assert "tower" not in line
    assert line["at"].endswith("+00:00")


def test_a_line_of_text_is_as_it_was(written: Callable[[str], Written]) -> None:
    to = written("text")
    to.log.info("embedded %d digits, Größe %s", 3, "é", extra=about(job="0b9f"))
    (line,) = to.lines
    assert line.endswith(" INFO embedded 3 digits, Größe é")


def test_a_sentence_keeps_its_letters_and_loses_its_lines() -> None:
    assert one_line("Größe 數字 7") == "Größe 數字 7"
    assert one_line("a\tb\nc") == "a\\tb\\nc"


def test_colour_is_the_log_s_own() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "bad \x1b[32m key", (), None)
    shown = TextFormatter(FORMAT, use_color=True).format(record)
    assert shown.startswith("\x1b[1;31m")
    assert "\\x1b[32m" in shown
