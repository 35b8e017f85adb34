"""Restarts of the broker, the database and the worker that answers, waited out by calls that are under way."""

from __future__ import annotations

import time

from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer

PASSING = (BrokerUnavailable, DatabaseUnavailable, NoAnswer)  # a worker that dies takes its request with it


class Outage:
    """Endures what will pass, for `longest` seconds, once the first answer has shown that all was there."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.since: float | None = None  # of the last answer; None before the first

    def over(self) -> None:
        """An answer came."""
        self.since = time.monotonic()

    def endure(self, error: Exception) -> None:
        """Wait a moment, or raise the error where there was no answer yet or none for too long."""
        if self.since is None or time.monotonic() - self.since > self.longest:
            raise error
        time.sleep(0.5)
