"""Whether what was measured grew. It must not know what that was."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CERTAIN = 0.01  # a rise is more than chance where numbers in random order would rise as much less often than this
SHOWN = 5  # samples, the medians of which are called first, middle and last


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How a number went. slope: an hour. slight: a slope that is no growth. limit: what a setting lets it grow to."""

    first: float
    middle: float
    last: float
    slope: float
    chance: float
    slight: float
    limit: float | None = None

    @property
    def grows(self) -> bool:
        """Whether it rises by more than chance and by more than is slight; or is past its limit, where it has one."""
        if self.limit is not None:
            return self.last > self.limit
        return self.chance < CERTAIN and self.slope > self.slight


def trend(times: Sequence[float], values: Sequence[float], *, slight: float, limit: float | None = None) -> Trend:
    """times: seconds.

    The slope is Theil and Sen's: the median of the slopes between every two samples, which a few high ones do not
    move. Whether it is more than chance is the one-sided test of Mann (1945, Econometrica 13) and Kendall.
    """
    part = max(1, min(SHOWN, len(values) // 3))
    centre = (len(values) - part) // 2
    return Trend(
        first=statistics.median(values[:part]),
        middle=statistics.median(values[centre : centre + part]),
        last=statistics.median(values[-part:]),
        slope=slope_an_hour(times, values),
        chance=chance_of_rise(values),
        slight=slight,
        limit=limit,
    )


def slope_an_hour(times: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes between every two samples; 0 for fewer than two."""
    before, after = np.triu_indices(len(values), 1)
    if not len(before):
        return 0.0
    t, v = np.asarray(times, np.float64), np.asarray(values, np.float64)
    return float(np.median((v[after] - v[before]) / (t[after] - t[before])) * 3600)


def chance_of_rise(values: Sequence[float]) -> float:
    """How likely the same numbers, in random order, rise as much as these do; 1 where all are equal."""
    v = np.asarray(values, np.float64)
    n = len(v)
    before, after = np.triu_indices(n, 1)
    score = float(np.sign(v[after] - v[before]).sum())
    ties = np.unique(v, return_counts=True)[1].astype(np.float64)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:
        return 1.0
    z = (score - math.copysign(1, score)) / math.sqrt(variance) if score else 0.0
    return 0.5 * math.erfc(z / math.sqrt(2))
