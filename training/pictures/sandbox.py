"""Decodes pictures in this process or, if an earlier attempt crashed, sandboxed in a child process.

It must not know why: the caller decides whether to sandbox.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from training.errors import PictureError, PictureReason
from training.pictures import sandbox_process
from training.pictures.deadline import LEAST, Budget, used_up
from training.pictures.read import read_picture
from training.pictures.sandbox_process import HEADER

ReadOne = Callable[[bytes], bytes]  # an encoded picture -> 784 pixels; raises PictureError

CHUNK_SECONDS = 60.0  # that the pictures of one chunk may take together; in the sandbox by the clock
SECONDS = 10.0  # that one picture may take in the sandbox


@contextmanager
def reader(normalise: bool, *, sandboxed: bool, seconds: float = CHUNK_SECONDS) -> Iterator[ReadOne]:
    """The function that reads the pictures of one chunk, within so many seconds of the processor."""
    if not sandboxed:
        budget = Budget(seconds)

        def read_here(picture: bytes) -> bytes:
            with budget.spend():
                return read_picture(picture, normalise=normalise).tobytes()

        yield read_here
        return
    decoder = Decoder(normalise, together=seconds)
    try:
        yield decoder.read
    finally:
        decoder.end()


class Decoder:
    """Decodes in a child process, which is started on first use, and again after a picture has killed it."""

    def __init__(self, normalise: bool, *, seconds: float = SECONDS, together: float = CHUNK_SECONDS) -> None:
        self._normalise, self._seconds, self._left = normalise, seconds, together
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, picture: bytes) -> bytes:
        """784 pixels. Raises PictureError: the refusal, or `poison` if the process died or took too long.

        `too_costly`, where the pictures before have used up the time of all.
        """
        if self._left < LEAST:
            raise used_up()
        start, seconds = time.monotonic(), min(self._seconds, self._left)
        try:
            kind, answer = self._ask(self._start_if_needed(), picture, seconds)
        except (OSError, EOFError) as error:
            fault = f"was ended after {seconds:g} s" if isinstance(error, TimeoutError) else "died"
            self.end()
            raise PictureError("poison", f"The process that decoded it {fault}. Send it in another format.") from error
        finally:
            self._left -= time.monotonic() - start
        if kind == sandbox_process.GLYPH:
            return answer
        reason, _, message = answer.decode().partition("\0")
        raise PictureError(cast(PictureReason, reason), message)  # as the child read it off a PictureError

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start_if_needed(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "training.pictures.sandbox_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], picture: bytes, seconds: float) -> tuple[int, bytes]:
        """The kind and the answer. Raises OSError or EOFError if the process died, TimeoutError if it is slow."""
        assert process.stdin is not None and process.stdout is not None
        request = memoryview(HEADER.pack(self._normalise, len(picture)) + picture)
        while request:
            request = request[process.stdin.write(request) :]
        kind, length = HEADER.unpack(self._receive(process, HEADER.size, seconds))
        return kind, self._receive(process, length, seconds)

    def _receive(self, process: subprocess.Popen[bytes], count: int, seconds: float) -> bytes:
        assert process.stdout is not None
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(received) < count:
                if not selector.select(seconds):
                    raise TimeoutError
                some = os.read(process.stdout.fileno(), count - len(received))
                if not some:
                    raise EOFError
                received += some
        return received
