"""Reads pictures in a child process, which has limits to its time and its memory, and is replaced when it dies.

It must not know who sent them.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import NamedTuple, cast

from training.errors import PictureError, PictureReason
from training.pictures.deadline import SECONDS, out_of_time, too_costly
from training.pictures.glyphs import Outcome
from training.pictures.sandbox_process import ANSWER, GLYPH, GRACE, LENGTH, READY, REQUEST

CHUNK_SECONDS = 60.0  # of the processor, that the pictures of one chunk may take together
SILENCE = 60.0  # seconds without an answer, after which the process is given up: the system does not let it work
PROGRAM = ("-P", "-m", "training.pictures.sandbox_process")
PIPE = 2**20  # bytes that a pipe holds where the system allows it: pictures for many milliseconds
SIZE = 2**16  # bytes that it holds else
MANY = 16  # pictures, which are sent and whose answers are read in bundles: to wake for each takes time of its own
BUNDLE = 0.004  # seconds in which answers gather


class SandboxError(OSError):
    """The process that decodes pictures cannot be started, whatever the picture. Look at the worker's log."""


def read_pictures(
    pictures: Sequence[bytes], *, normalise: bool, seconds: float = CHUNK_SECONDS, at_once: int = 1
) -> list[Outcome]:
    """784 pixels for each encoded picture, or the PictureError that refuses it.

    seconds: of the processor, for all of them. at_once: child processes that read them, where there are MANY for each;
    each has its part of the time. Raises SandboxError.
    """
    count = min(at_once, len(pictures) // MANY)
    if count < 2:
        return sandbox().read(pictures, normalise=normalise, seconds=seconds) if pictures else []
    outcomes: list[Outcome] = [b""] * len(pictures)

    def read(child: int) -> None:
        part = pictures[child::count]
        outcomes[child::count] = sandbox(child).read(part, normalise=normalise, seconds=seconds / count)

    with ThreadPoolExecutor(count) as threads:
        try:
            list(threads.map(read, range(count)))
        except BaseException:  # the others' work is in vain; a process that is to end waits for none of it
            for child in range(count):
                sandbox(child).close()
            sandbox.cache_clear()
            raise
    return outcomes


class Answer(NamedTuple):
    """left: seconds of the processor for the pictures that follow."""

    outcome: Outcome
    left: float


@cache
def sandbox(number: int = 0) -> Sandbox:
    """This process's own; of several, that of the number."""
    made = Sandbox()
    atexit.register(made.end)
    return made


class Sandbox:
    """A child process, started on first use, and again when it has ended."""

    def __init__(self, *, silence: float = SILENCE, program: Sequence[str] = PROGRAM) -> None:
        self._silence, self._program = silence, program
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def read(self, pictures: Sequence[bytes], *, normalise: bool, seconds: float = CHUNK_SECONDS) -> list[Outcome]:
        """As `read_pictures`.

        A picture of which two processes die is refused as `poison`, one for which the process was ended as
        `too_costly`; another process reads those after it.
        """
        outcomes: list[Outcome] = []
        left, died = seconds, False
        with self._lock:
            while len(outcomes) < len(pictures):
                process, start = self.running(), time.monotonic()
                try:
                    for answer in self._ask(process, pictures[len(outcomes) :], normalise, left):
                        outcomes.append(answer.outcome)
                        left, start, died = answer.left, time.monotonic(), False
                except OSError as error:
                    self.end()
                    left -= min(time.monotonic() - start, SECONDS + GRACE)
                    refused = ended_by(error, process.returncode)
                    if died or refused.reason != "poison":  # else it may have been killed for another reason
                        outcomes.append(refused)
                    died = not died and refused.reason == "poison"
                except BaseException:
                    self.end()  # its answers would be taken for those to the next request
                    raise
        return outcomes

    def close(self) -> None:
        """End what another thread reads here: it gets a SandboxError, and so does whoever reads here later."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
            process.wait()

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def running(self) -> subprocess.Popen[bytes]:
        """The process, ready to read. Raises SandboxError."""
        if self._process is not None and self._process.poll() is not None:
            self.end()
        if self._process is None:
            self._process = process = subprocess.Popen(
                [sys.executable, *self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            assert process.stdin is not None and process.stdout is not None
            os.set_blocking(process.stdin.fileno(), False)
            with suppress(AttributeError, OSError):  # not every system has larger ones
                fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE)
            if process.stdout.read(len(READY)) != READY:
                self.end()
                raise SandboxError(f"the process that decodes pictures does not start (status {process.returncode})")
        if self._closed:
            self.end()
            raise SandboxError("the reading of these pictures was given up")
        return self._process

    def _ask(
        self, process: subprocess.Popen[bytes], pictures: Sequence[bytes], normalise: bool, seconds: float
    ) -> Iterator[Answer]:
        """Raises OSError where the process died or is silent."""
        assert process.stdin is not None and process.stdout is not None
        parts = [part for picture in pictures for part in (LENGTH.pack(len(picture)), picture)]
        request = b"".join([REQUEST.pack(normalise, seconds, len(pictures)), *parts])
        unsent, unread, missing = memoryview(request), bytearray(), len(pictures)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            while missing:
                ready = selector.select(self._silence)
                if not ready:
                    raise TimeoutError(f"it was not decoded within {self._silence:g} s")
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        unsent = unsent[os.write(key.fd, unsent) :]
                        if not unsent:
                            selector.unregister(process.stdin)
                    else:
                        some = os.read(key.fd, SIZE)
                        if not some:
                            raise BrokenPipeError
                        unread += some
                for answer in taken(unread):
                    missing -= 1
                    yield answer
                if missing >= MANY:
                    time.sleep(BUNDLE)


def taken(unread: bytearray) -> Iterator[Answer]:
    """Takes the whole answers out of what was read."""
    at = 0
    while len(unread) >= at + ANSWER.size:
        kind, left, length = ANSWER.unpack_from(unread, at)
        start, end = at + ANSWER.size, at + ANSWER.size + length
        if len(unread) < end:
            break
        at, answer = end, bytes(unread[start:end])
        yield Answer(answer if kind == GLYPH else refusal(answer), left)
    del unread[:at]


def refusal(answer: bytes) -> PictureError:
    reason, _, message = answer.decode().partition("\0")
    return PictureError(cast(PictureReason, reason), message)  # as the child read it off a PictureError


def ended_by(error: OSError, status: int) -> PictureError:
    """The refusal of the picture of which the process died, with that status, or that it never answered."""
    if status == -signal.SIGXCPU:
        return out_of_time(SECONDS)
    if isinstance(error, TimeoutError):
        return too_costly(str(error))
    return PictureError("poison", "The process that decoded it died, twice. Send it in another format.")
