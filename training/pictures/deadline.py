"""Ends work on a picture that takes more of the processor than a picture may. It must not know what the work is."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from training.errors import PictureError

SECONDS = 5.0  # of the processor for one picture; the largest honest ones take a tenth of it
LEAST = 0.05  # seconds without which none is begun
TICK = 0.05  # seconds of the processor between two looks at what is left


class _Overtime(BaseException):
    """Not an Exception: Pillow's readers catch those of their parsers."""


class _Timer:
    """Of this process, which has one. end: of what runs now, by the process's own time."""

    ticks = False
    end: float | None = None

    def look(self, *_: Any) -> None:
        if self.end is not None and time.process_time() >= self.end:
            raise _Overtime


_timer = _Timer()


@contextmanager
def ticking() -> Iterator[None]:
    """Let the timer run for many deadlines: each then costs no call of the system. In the main thread alone."""
    before = signal.signal(signal.SIGPROF, _timer.look)
    signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
    _timer.ticks = True
    try:
        yield
    finally:
        _timer.ticks = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """Let the block run for so many seconds of this process's time, all threads together, and a TICK more at most.

    Raises PictureError `too_costly` afterwards. The interruption comes between two steps of the interpreter, and again
    where something swallowed it: Pillow feeds its decoders in pieces of 64 KiB, so a long decoding is ended in its
    middle. It needs signals, so outside the main thread the block runs as long as it takes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with nullcontext() if _timer.ticks else ticking():
        try:
            _timer.end = time.process_time() + seconds
            try:
                yield
            finally:
                _timer.end = None
        except _Overtime:
            _timer.end = None  # it may have come just before
            raise out_of_time(seconds) from None


class Budget:
    """What is left of the seconds that several pictures may take together."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Let one picture take some of it. Raises PictureError `too_costly` where none is left."""
        if self.left < LEAST:
            raise used_up()
        start = time.process_time()
        try:
            with deadline(min(SECONDS, self.left)):
                yield
        finally:
            self.left -= time.process_time() - start


def too_costly(why: str) -> PictureError:
    """The refusal of a picture that was given up."""
    return PictureError("too_costly", f"The picture was given up: {why}. Save it anew, smaller or in another format.")


def out_of_time(seconds: float) -> PictureError:
    return too_costly(f"it took more than {seconds:g} s of the processor")


def used_up() -> PictureError:
    """The refusal of a picture for which no time is left."""
    return too_costly("those sent with it have used up the time of all")
