"""Waits out restarts of the broker, the database and the worker that answers, for calls that are under way."""

from __future__ import annotations

import time

from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer

REPEAT_AFTER = 5.0  # seconds; an answer takes milliseconds, and a request can be lost with its worker
RETRY_AFTER = 0.5  # seconds after one of these errors
TRANSIENT = (BrokerUnavailable, DatabaseUnavailable, NoAnswer)  # NoAnswer: a worker that dies takes its request along


class Outage:
    """Retries transient errors for `longest` seconds, but only after a first success: a wrong URL fails at once."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.since: float | None = None  # of the last answer; None before the first

    @property
    def timeout(self) -> float | None:
        """Seconds to wait for the next answer: few where there were some before, the client's own for the first."""
        return None if self.since is None else REPEAT_AFTER

    def over(self) -> None:
        """An answer came."""
        self.since = time.monotonic()

    def endure(self, error: Exception) -> None:
        """Wait a moment, or raise the error where there was no answer yet or none for too long."""
        self.check(error)
        time.sleep(RETRY_AFTER)

    def check(self, error: Exception) -> None:
        """Raise the error where there was no answer yet or none for too long."""
        if self.since is None or time.monotonic() - self.since > self.longest:
            raise error
