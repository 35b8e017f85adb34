"""Whose batch is next: jobs take turns, so that none waits for the whole of another one.

A message that wakes a worker names a batch, and any other that is due will do: there is a message for each. It must not
know leases or messages.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy.orm import Session

from db.bulk import fetch
from db.queue.pauses import NOT_HELD
from db.states import JobKind

# From job to job in the index: the time grows with the jobs that wait, not with their batches.
_OLDEST = f"""
    WITH RECURSIVE waiting AS (
        (SELECT job FROM batches WHERE state = 'queued' ORDER BY job LIMIT 1)
        UNION ALL
        SELECT (SELECT job FROM batches WHERE state = 'queued' AND job > waiting.job ORDER BY job LIMIT 1)
        FROM waiting WHERE waiting.job IS NOT NULL
    )
    SELECT jobs.id, oldest.id, size, coalesce((parameters ->> 'priority')::int, 1)
    FROM waiting JOIN jobs ON jobs.id = waiting.job
    CROSS JOIN LATERAL (
        SELECT batches.id, size FROM batches
        WHERE batches.job = waiting.job AND state = 'queued' AND (retry_at IS NULL OR retry_at <= now())
            AND {NOT_HELD}
        ORDER BY batches.id LIMIT 1
    ) AS oldest
    WHERE kind = %s
"""


class Due(NamedTuple):
    """The oldest batch of a job that may be taken now. priority: of the job; twice as much is twice the share."""

    job: uuid.UUID
    batch: int
    digits: int
    priority: int


class Turns:
    """How much each job has had while it waited: the one with the least, by its priority, is next.

    Weighted fair queueing (Demers, Keshav and Shenker 1989) with the digits of a batch as its length. A job that comes
    begins with the least that another one has had: what was before it came gives it no claim. Each process keeps its
    own, and jobs that are fairly served by each are so by all.
    """

    def __init__(self) -> None:
        self._had: dict[uuid.UUID, float] = {}  # digits divided by priority, of the jobs that wait

    def next(self, waiting: Iterable[Due]) -> Due | None:
        """The batch that is to be taken, of the oldest of each job that waits; None where none does."""
        due = list(waiting)
        known = [had for each in due if (had := self._had.get(each.job)) is not None]
        least = min(known, default=0.0)
        self._had = {each.job: self._had.get(each.job, least) for each in due}
        chosen = min(due, key=lambda each: (self._had[each.job], each.batch), default=None)
        if chosen is not None:
            self._had[chosen.job] += chosen.digits / chosen.priority
        return chosen


def oldest(session: Session, kind: JobKind) -> list[Due]:
    """The oldest batch of each job of a kind that may be taken now."""
    return [Due(*row) for row in fetch(session, _OLDEST, [kind])]
