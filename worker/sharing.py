"""Which lane is read next where one process embeds both new digits and stored ones: new ones come first, and a backfill
gets a set share of the time while they wait, and all of it otherwise. By strict priority it could wait for ever.

It must not know what a message holds, nor what reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

FIRST, YIELDING = "embed", "backfill"
MOST_BEHIND = 0.1  # seconds, a few batches: time in which nothing waited is counted as well, and is worth no more
MOST_AHEAD = 1.0  # seconds: that a backfill was alone for longer is forgotten


class SharedCycle:
    """Stands where one of `kombu.utils.scheduling` does, which a channel asks for the order of its lanes.

    Lanes take turns; of the two that share, the one that is behind its share of the time stands before the other.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = share / (1 - share)  # seconds of the backfill for one of new digits
        self._clock = clock
        self._lanes: list[str] = []
        self._behind = 0.0  # seconds that the backfill has had too few, while new digits were embedded
        self._last, self._at = "", clock()

    def update(self, lanes: Iterable[str]) -> None:
        """The lanes that are read."""
        self._lanes[:] = lanes

    def consume(self, count: int) -> list[str]:
        """The lanes in the order in which they are read."""
        order = self._lanes[:count]
        if FIRST in order and YIELDING in order:
            places = sorted((order.index(FIRST), order.index(YIELDING)))
            pair = (YIELDING, FIRST) if self._behind > 0 else (FIRST, YIELDING)
            for place, lane in zip(places, pair, strict=True):
                order[place] = lane
        return order

    def rotate(self, used: str) -> str:
        """Note that a message of a lane was taken, the work on the last one being done."""
        now = self._clock()
        took = now - self._at
        if self._last == FIRST:
            self._behind = min(self._behind + took * self._rate, MOST_BEHIND)
        elif self._last == YIELDING:
            self._behind = max(self._behind - took, -MOST_AHEAD)
        self._last, self._at = used, now
        if used in self._lanes:
            self._lanes.remove(used)
            self._lanes.append(used)
        return used
