"""A picture that crashes, holds up or fills the process that decodes it is refused, and costs nothing else: that
process is a child."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.abuse.pictures import tiff_of_one_tile
from tests.makers import eventually, glyph, peak
from training.errors import PictureError
from training.pictures.read import read_picture
from training.pictures.sandbox import MANY, Answer, Sandbox, read_pictures, taken
from training.pictures.sandbox import sandbox as one_of_several
from training.pictures.sandbox_process import MEMORY

CRASHES = b"\x89PNG crashes the decoder"
FILLS = b"kept for ever"
SPINS = b"\x89PNG holds it up"

BROKEN = """
import ctypes, signal
from training.pictures import sandbox_process as process

def broken(picture, **options):
    if picture == {crashes!r}:
        ctypes.string_at(0)
    if picture == {fills!r}:
        kept.append(b"x" * (process.KEPT + 2**20))
    if picture == {spins!r}:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])  # as code does that returns to no interpreter
        while True:
            pass
    return read(picture, **options)

kept = []
read, process.read_picture = process.read_picture, broken
process.SECONDS, process.GRACE = 0.2, 0
process.main()
"""


def png(seed: int) -> bytes:
    """A 28x28 PNG of glyph(seed)."""
    file = BytesIO()
    Image.fromarray(np.frombuffer(glyph(seed), np.uint8).reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    sandbox.end()


@pytest.fixture
def breaking(tmp_path: Path) -> Iterator[Sandbox]:
    """One whose process dies of CRASHES, and is held up by SPINS."""
    program = tmp_path / "broken.py"
    program.write_text(BROKEN.format(crashes=CRASHES, spins=SPINS, fills=FILLS))
    sandbox = Sandbox(program=[str(program)], silence=20)
    yield sandbox
    sandbox.end()


def reasons(sandbox: Sandbox, *pictures: bytes, seconds: float = 60) -> list[str]:
    """What came of each: its reason, or `read` where it was read as this process would."""
    found: list[str] = []
    for picture, outcome in zip(pictures, sandbox.read(pictures, normalise=False, seconds=seconds), strict=True):
        if not isinstance(outcome, PictureError):
            assert outcome == read_picture(picture, normalise=False).tobytes()
        found.append(outcome.reason if isinstance(outcome, PictureError) else "read")
    return found


def process_of(sandbox: Sandbox) -> psutil.Process:
    return psutil.Process(sandbox.running().pid)


def test_it_decodes_as_the_process_itself_would(sandbox: Sandbox) -> None:
    assert reasons(sandbox, *map(png, range(3))) == ["read"] * 3
    assert sandbox.read([], normalise=False) == []


def test_a_refusal_comes_with_its_reason_and_its_sentence(sandbox: Sandbox) -> None:
    _, refused, _ = sandbox.read([png(1), b"no picture", png(2)], normalise=False)
    assert isinstance(refused, PictureError)
    assert refused.reason == "not_a_picture"
    assert str(refused).endswith("or WEBP.")


def test_more_than_a_pipe_holds_goes_both_ways(sandbox: Sandbox) -> None:
    assert reasons(sandbox, *map(png, range(300)), bytes(10 * 2**20)) == ["read"] * 300 + ["not_a_picture"]


def test_only_what_kills_the_decoder_is_poison(breaking: Sandbox) -> None:
    assert reasons(breaking, png(1), CRASHES, png(2), CRASHES, png(3)) == ["read", "poison", "read", "poison", "read"]


def test_only_what_cannot_be_interrupted_is_ended_by_the_system(breaking: Sandbox) -> None:
    _, ended, _ = found = breaking.read([png(1), SPINS, png(2)], normalise=False)
    assert [isinstance(outcome, PictureError) for outcome in found] == [False, True, False]
    assert isinstance(ended, PictureError)
    assert (ended.reason, "s of the processor" in str(ended)) == ("too_costly", True)


def test_a_process_that_is_killed_for_another_reason_costs_no_picture(sandbox: Sandbox) -> None:
    assert reasons(sandbox, png(1)) == ["read"]
    process = process_of(sandbox)
    process.kill()
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE, "its end")
    assert reasons(sandbox, png(2)) == ["read"]
    process = process_of(sandbox)
    process.suspend()
    found: list[str] = []
    reading = threading.Thread(target=lambda: found.extend(reasons(sandbox, png(3), png(4))))
    reading.start()
    process.kill()
    reading.join()
    assert found == ["read", "read"]


def test_what_is_not_answered_is_given_up() -> None:
    sandbox = Sandbox(silence=0.2)
    sandbox.read([png(1)], normalise=False)
    process = process_of(sandbox)
    process.suspend()
    (refused,) = sandbox.read([png(2)], normalise=False)
    assert isinstance(refused, PictureError)
    assert (refused.reason, "within 0.2 s" in str(refused)) == ("too_costly", True)
    assert not process.is_running()


def test_what_wants_too_much_memory_is_refused_and_the_rest_is_read(sandbox: Sandbox) -> None:
    small, bomb = tiff_of_one_tile(1024), tiff_of_one_tile(32 * 1024)
    sandbox.read([png(1)], normalise=False)
    process = process_of(sandbox)
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak is what it has now
    before = process.memory_info().rss
    _, refused, _ = found = sandbox.read([small, bomb, png(2)], normalise=True)
    assert [isinstance(outcome, PictureError) for outcome in found] == [False, True, False]
    assert isinstance(refused, PictureError)
    assert (refused.reason, "more memory than there is for one" in str(refused)) == ("too_costly", True)
    assert process_of(sandbox) == process
    assert peak(process) - before < MEMORY


def test_a_process_that_keeps_much_of_a_picture_is_replaced(breaking: Sandbox) -> None:
    assert reasons(breaking, FILLS, png(1)) == ["not_a_picture", "read"]
    process = process_of(breaking)
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE, "its end")
    assert reasons(breaking, png(2)) == ["read"]


def test_the_pictures_of_a_chunk_share_their_time(sandbox: Sandbox) -> None:
    assert reasons(sandbox, png(1), png(2), seconds=0.01) == ["too_costly"] * 2


def test_several_processes_read_the_pictures_of_a_chunk(sandbox: Sandbox) -> None:
    pictures = [b"no picture" if number % 7 == 3 else png(number) for number in range(3 * MANY + 1)]
    expected = sandbox.read(pictures, normalise=False)
    found = read_pictures(pictures, normalise=False, at_once=3)
    assert [outcome if isinstance(outcome, bytes) else outcome.reason for outcome in found] == [
        outcome if isinstance(outcome, bytes) else outcome.reason for outcome in expected
    ]
    assert len({one_of_several(number).running().pid for number in range(3)}) == 3
    late = read_pictures(pictures, normalise=False, seconds=0.01, at_once=3)
    assert "too_costly" in {outcome.reason for outcome in late if isinstance(outcome, PictureError)}


def test_the_process_ends_with_the_one_that_asks() -> None:
    program = (
        "import os, signal, sys; from training.pictures.sandbox import sandbox; "
        "print(sandbox().running().pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    said = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False).stdout
    eventually(lambda: not psutil.pid_exists(int(said)), "its end")


def test_what_was_interrupted_is_not_taken_for_the_answer_to_what_comes_next(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sandbox.read([png(1)], normalise=False)
    with monkeypatch.context() as patched:
        patched.setattr("training.pictures.sandbox.taken", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sandbox.read([png(2), png(3)], normalise=False)
    assert reasons(sandbox, png(4), png(5)) == ["read", "read"]


def test_an_interruption_ends_all_that_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [png(number) for number in range(2 * MANY)]
    read_pictures(pictures, normalise=False, at_once=2)
    processes = [psutil.Process(one_of_several(number).running().pid) for number in range(2)]
    told = threading.Event()

    def interrupt(*_: object) -> None:
        if not told.is_set():
            told.set()
            raise KeyboardInterrupt

    def interrupted(unread: bytearray) -> Iterator[Answer]:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert told.wait(10)
        return taken(unread)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with monkeypatch.context() as patched:
            patched.setattr("training.pictures.sandbox.taken", interrupted)
            with pytest.raises(KeyboardInterrupt):
                read_pictures(pictures, normalise=False, at_once=2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not any(process.is_running() for process in processes)
    assert all(isinstance(outcome, bytes) for outcome in read_pictures(pictures, normalise=False, at_once=2))
