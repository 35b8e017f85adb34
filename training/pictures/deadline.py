"""Ends work on a picture that takes more of the processor than a picture may. It must not know what the work is."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from training.errors import PictureError

SECONDS = 5.0  # of the processor for one picture; the largest honest ones take a tenth of it
LEAST = 0.05  # seconds without which none is begun; the timer's own step is below
AGAIN = 0.25  # seconds after which it is interrupted again, where something swallowed the first time


class _Overtime(BaseException):
    """Not an Exception: Pillow's readers catch those of their parsers."""


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """Let the block run for so many seconds of this process's time, all threads together.

    Raises PictureError `too_costly` afterwards. The interruption comes between two steps of the interpreter: Pillow
    feeds its decoders in pieces of 64 KiB, so a long decoding is ended in its middle. It needs signals, so outside the
    main thread the block runs as long as it takes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN)
    try:
        yield
    except _Overtime:
        raise out_of_time(seconds) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


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


def _interrupt(*_: Any) -> None:
    raise _Overtime
