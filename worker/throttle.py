"""Leaves out work that is asked for more often than it can be done. It must not know what the work is."""

from __future__ import annotations

import time
from collections.abc import Callable


class Throttle:
    """Leaves out a round that comes sooner after the last one than twice its time: a third of the time is taken.

    Where the database is slow, far away or gone, a round takes longer than the time between two messages that ask for
    one. They would pile up on the lane, and clients would wait behind them without end.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0  # when the next round may begin

    def run(self, work: Callable[[], object]) -> None:
        """Do the work, or leave it out. Raises what the work raises; that was a round as well."""
        begun = self._clock()
        if begun < self._next:
            return
        try:
            work()
        finally:
            ended = self._clock()
            self._next = ended + 2 * (ended - begun)


upkeep = Throttle()  # of all that this process does besides what clients ask for: sweeps and pruning share the third
