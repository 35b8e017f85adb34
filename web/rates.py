"""How fast a job goes, by what was seen of it: from two counts of the last half minute. It must not ask for them."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import NamedTuple

from twinvec_client import JobStatus

WINDOW = 30.0  # seconds
MOST_JOBS = 200  # that are remembered


class Pace(NamedTuple):
    """rate: pictures a second; left: seconds until all are accounted for. None where that cannot be said yet."""

    rate: float | None
    left: float | None


class Rates:
    """The counts of jobs that were looked at lately."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    def of(self, job: JobStatus, *, now: float | None = None) -> Pace:
        """The pace of a job of pictures. now: seconds of any clock; else the system's."""
        if job.final:
            self._seen.pop(job.id, None)
            return Pace(job.settled / job.seconds if job.seconds > 0 and job.settled else None, None)
        at = time.monotonic() if now is None else now
        seen = self._seen.setdefault(job.id, deque())
        self._seen.move_to_end(job.id)
        while len(self._seen) > MOST_JOBS:
            self._seen.popitem(last=False)
        seen.append((at, job.settled))
        while len(seen) > 2 and at - seen[0][0] > WINDOW:
            seen.popleft()
        rate = _rate(seen, job)
        if not rate or job.total is None:
            return Pace(rate, None)
        return Pace(rate, (job.total - job.settled) / rate)


def _rate(seen: deque[tuple[float, int]], job: JobStatus) -> float | None:
    (first, before), (last, settled) = seen[0], seen[-1]
    if last - first >= 1:
        return max(0.0, (settled - before) / (last - first))
    return job.settled / job.seconds if job.seconds > 1 and job.settled else None
