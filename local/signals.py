"""Ctrl-C, SIGTERM and SIGHUP as one thing: the first ends the work in order, a second one at once.

It must not know what the work is.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, the first signal raises KeyboardInterrupt and later ones only set `immediate`.

    Call `ending()` before cleaning up, so that a signal cannot interrupt that.
    """

    def __init__(self) -> None:
        self._ending = self.immediate = False
        self._before: dict[signal.Signals, Any] = {}

    def ending(self) -> None:
        """From here on a signal only sets `immediate`."""
        self._ending = True

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            self.immediate = True
            return
        self._ending = True
        raise KeyboardInterrupt
