"""Logs are rotated while processes write to them, and a few generations are kept."""

import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from local.servers.logs import KEPT, rotate_if_large
from tests.makers import eventually

WRITER = "import itertools, os\nfor line in itertools.count():\n    os.write(1, b'%09d\\n' % line)"


def lines(log: Path) -> list[int]:
    """The whole ones: the last may be cut off, where it was being written while it was copied."""
    return [int(line) for line in log.read_text().split("\n")[:-1]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "worker.log"


def test_a_small_log_and_one_that_is_not_there_are_left_alone(log: Path) -> None:
    assert rotate_if_large(log, largest=10) == log
    log.write_text("0123456789")
    rotate_if_large(log, largest=10)
    assert [path.name for path in log.parent.iterdir()] == ["worker.log"]


def test_a_few_generations_are_kept_newest_first(log: Path) -> None:
    log.parent.mkdir()
    for generation in range(KEPT + 3):
        log.write_text(f"generation {generation}")
        rotate_if_large(log, largest=3)
        assert log.read_text() == ""
    names = [f"worker.log.{age}" for age in range(1, KEPT + 1)]
    assert sorted(path.name for path in log.parent.iterdir()) == ["worker.log", *names]
    assert [(log.parent / name).read_text() for name in names] == ["generation 5", "generation 4", "generation 3"]


def test_a_process_that_writes_goes_on_at_the_new_end(log: Path) -> None:
    log.parent.mkdir()
    with log.open("ab") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=output, start_new_session=True)
    try:
        for _ in range(KEPT):
            eventually(lambda: log.stat().st_size > 20_000, "a large log")
            rotate_if_large(log, largest=20_000)
        eventually(lambda: log.stat().st_size > 1000, "what is written afterwards")
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert b"\0" not in log.read_bytes(), "a hole where the old end was"
    pieces = [lines(log.with_name(f"{log.name}.{age}")) for age in range(KEPT, 0, -1)] + [lines(log)]
    for piece, following in pairwise(pieces):
        assert piece == list(range(piece[0], piece[-1] + 1)), "nothing is lost but between two pieces"
        assert piece[-1] < following[0]
