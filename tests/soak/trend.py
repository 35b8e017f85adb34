"""Whether what was measured grew, and the tables of that. It must not know how anything is measured."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CERTAIN = 0.01  # the chance of a trend as strong in numbers that have none, below which it counts as one
SLIGHT = 0.01  # of the median, an hour: a month of it would not double anything sevenfold
SHOWN = 0.1  # of the samples, the medians of which are called first, middle and last


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How one number went. slope: an hour. limit: what a setting lets it grow to, where one does."""

    name: str
    first: float
    middle: float
    last: float
    slope: float
    rises: bool  # by more than chance, and by more than is slight
    limit: float | None = None

    @property
    def verdict(self) -> str:
        if self.limit is not None:
            return f"within {self.limit:,.0f}" if self.last <= self.limit else f"OVER {self.limit:,.0f}"
        return "GROWS" if self.rises else "flat"

    @property
    def passed(self) -> bool:
        return self.verdict.islower()


def trend(
    name: str, times: Sequence[float], values: Sequence[float], *, slight: float, limit: float | None = None
) -> Trend:
    """times: seconds. slight: an hour, what is not worth the name of growth however certain it is.

    The slope is Theil and Sen's: the median of the slopes between every two samples, which a few high ones do not
    move. Whether it is more than chance is Mann and Kendall's test, one-sided (Mann 1945, Econometrica 13; Kendall
    1975, Rank Correlation Methods).
    """
    slope, chance = slope_an_hour(times, values), chance_of_rise(values)
    part = max(1, round(SHOWN * len(values)))
    centre = (len(values) - part) // 2
    return Trend(
        name=name,
        first=statistics.median(values[:part]),
        middle=statistics.median(values[centre : centre + part]),
        last=statistics.median(values[-part:]),
        slope=slope,
        rises=chance < CERTAIN and slope > max(slight, SLIGHT * abs(statistics.median(values))),
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
    """The chance that numbers in random order rise as these do, or more; 1 where all are equal."""
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
