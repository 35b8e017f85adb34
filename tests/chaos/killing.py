"""Kills at random moments, of random members, over the whole run of a job."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import ClassVar

from tests.chaos.application import CHUNK
from tests.chaos.fleet import Fleet

SECONDS = 0.4  # that a batch takes: long enough that most of those that die hold one
AHEAD = 16 * CHUNK  # pictures, so that there is always something to hold


class Killer:
    """Kills members of a fleet, a few seconds apart, and lets a client send no faster than it kills.

    KINDS says what is killed, in the words of `Faults.kill`. weights: member -> how often it is chosen.
    every: seconds between two kills, give or take a half.
    """

    KINDS: ClassVar = {"tree": "whole trees", "parent": "parents", "child": "pool processes"}

    def __init__(self, fleet: Fleet, weights: Mapping[str, float], *, kills: int, every: float, seed: int = 0) -> None:
        self.fleet, self.weights, self.kills, self.every = fleet, dict(weights), kills, every
        self.done: Counter[str] = Counter()  # kills by what was killed: tree, parent or child
        self._random = random.Random(seed)

    def pace(self, total: int) -> Callable[[int], None]:
        """A `pace` for `Application.embed` of `total` pictures: what is sent is little ahead of the kills."""

        def wait(sent: int) -> None:
            while sent > total * (self.done.total() + 1) / self.kills + AHEAD:
                time.sleep(0.05)

        return wait

    def run(self) -> None:
        for _ in range(self.kills):
            time.sleep(self.every * self._random.uniform(0.5, 1.5))
            able = self.fleet.until(self._able, "a member at work", within=120)
            name = self._random.choices(able, [self.weights[name] for name in able])[0]
            what = self._random.choice(list(self.KINDS))
            self.fleet.faults.kill(name, what)
            self.done[what] += 1

    def _able(self) -> list[str]:
        """Those that have come up since their last death."""
        return [name for name in self.weights if self.fleet.members[name].works()]
