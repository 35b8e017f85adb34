"""Celery's scheduler, with intervals that the machine's clock has no part in.

Celery notes when it sent a message, and compares that with the clock: set back by an hour, it sends none for an hour.
It must not know what is sent.
"""

from __future__ import annotations

import time
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import crontab, schedstate


class SteadyEntry(ScheduleEntry):
    """What is sent in intervals is due by the monotonic clock; what is sent at times of day by the machine's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.since = time.monotonic()  # an entry is made anew each time it is sent

    def __iter__(self) -> Any:  # Celery's stub has it return an entry
        """What the next entry is made of."""
        return ((name, value) for name, value in vars(self).items() if name != "since")

    def is_due(self) -> Any:
        """(whether it is, seconds until it is to be asked again)."""
        if isinstance(self.schedule, crontab):
            return super().is_due()
        steady: Any = self.schedule
        every: float = steady.seconds
        left = every - (time.monotonic() - self.since)
        return schedstate(True, every) if left <= 0 else schedstate(False, left)


class SteadyScheduler(Scheduler):
    """Of entries that are due by the monotonic clock."""

    Entry = SteadyEntry

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; seconds until the next look. All entries are looked at: Celery's own looks at the one that
        is due next by the clock alone, behind which the others wait where that was set."""
        wait = float(self.max_interval or 300)
        for entry in list(self.schedule.values()):
            due, again = self.is_due(entry)
            if due:
                self.reserve(entry)
                self.apply_entry(entry, producer=self.producer)
            wait = min(wait, max(again or 0.0, 0.0))
        return wait
