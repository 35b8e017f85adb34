"""When a job's status is asked for, and which of its statuses are news: the same for both faces of the client.

It must not wait itself: one face blocks, the other does not.
"""

from __future__ import annotations

import time
from dataclasses import replace

from twinvec_client.connection import Connection
from twinvec_client.contract.messages import StatusOf
from twinvec_client.delivery import Pace
from twinvec_client.errors import NotReady
from twinvec_client.outage import RETRY_AFTER, TRANSIENT, Outage
from twinvec_client.results import JobStatus

SUBSCRIBING = 0.02  # seconds to wait for the subscription; where it takes longer, one status more is asked for
FRESH = 60.0  # seconds that an end which is known already is told without being asked for: who sends thousands of small
# jobs waits for them one after the other at last
_LONGEST_PAUSE = 1.0  # seconds between two statuses while workers announce nothing
_LONGEST_GAP = 0.5  # seconds between two statuses however much they announce


class Ended:
    """How a job ended, as the answer to its pictures said: it is not asked for once more.

    For a minute and once alone: later, what was stored may have been deleted or restored from a backup.
    """

    def __init__(self, status: JobStatus) -> None:
        self._status: JobStatus | None = status
        self._until = time.monotonic() + FRESH

    def take(self) -> JobStatus | None:
        """The status; None where it was taken, or is old."""
        status, self._status = self._status, None
        return status if time.monotonic() < self._until else None


class Watch:
    """One caller who follows one job. timeout: seconds that it may take; None for any.

    Statuses are asked for when workers announce something. A lost announcement costs a quarter of the time so far, and
    a second at most; where the broker sends none, a twentieth, and half a second at most.
    """

    def __init__(self, job: str, pace: Pace, timeout: float | None) -> None:
        self.job, self.timeout = job, timeout
        self._outage = Outage(pace.outage)
        self._start = self._read_at = time.monotonic()
        self._last: JobStatus | None = None
        self._failed = False

    def read(self, connection: Connection) -> JobStatus | None:
        """The status, if it is news. Raises what is no outage, or has been one for too long."""
        self._read_at = time.monotonic()
        try:
            status = JobStatus.read(connection.ask(StatusOf(job=self.job), timeout=self._outage.timeout))
        except TRANSIENT as error:
            self._outage.check(error)
            self._failed = True
            return None
        self._outage.over()
        self._failed = False
        known, self._last = self._last, status
        return None if known is not None and replace(status, seconds=known.seconds) == known else status

    def pause(self, *, subscribed: bool) -> float:
        """Seconds to wait for an announcement before the next status is asked for. Raises NotReady."""
        passed = time.monotonic() - self._start
        if self._failed:
            pause = RETRY_AFTER
        elif subscribed:
            pause = min(max(passed / 4, 0.1), _LONGEST_PAUSE)
        else:
            pause = min(max(passed / 20, 0.01), _LONGEST_GAP)
        if self.timeout is None:
            return pause
        if passed >= self.timeout:
            state = "not known" if self._last is None else self._last.state
            raise NotReady(f"job {self.job} is {state} after {self.timeout:g} s; it goes on")
        return min(pause, self.timeout - passed)

    def gap(self) -> float:
        """Seconds to wait all the same, so that a long job's announcements cost a twentieth of its time at most."""
        now = time.monotonic()
        gap = RETRY_AFTER if self._failed else min((now - self._start) / 20, _LONGEST_GAP)
        return max(0.0, self._read_at + gap - now)
