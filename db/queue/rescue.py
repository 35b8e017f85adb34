"""The sweep: expired leases are queued again, batches that crash workers isolated, due ones taken for publishing.

It must not know the broker: `worker.outbox` publishes what is taken here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.queue.dead import bury, close
from db.queue.failures import KEPT_BYTES, LedgerReason
from db.queue.leases import interval
from db.queue.pauses import is_held
from db.states import BatchState, JobKind
from db.tables import Batch, Job, Tower
from db.vectors.towers import is_maintained

PARTS = 4  # that a batch which crashes its workers is split into: one culprit of 4,096 digits is found in 10 crashes


@dataclass(frozen=True)
class Rescued:
    """What a round of `rescue` did. expired: leases. isolated: batches that were split or marked dead. failed: digits
    of new ones that failed by it, by their reason."""

    expired: int = 0
    isolated: int = 0
    failed: Counter[LedgerReason] = field(default_factory=Counter)


def rescue(session: Session, *, max_attempts: int, max_errors: int, kept_bytes: int = KEPT_BYTES) -> Rescued:
    """Queue batches whose lease expired; one that crashed `max_attempts` workers is split, or dead if it
    cannot be split. One whose work ended `max_errors` times with an exception is dead.
    """
    requeued: Any = session.execute(
        update(Batch)
        .where(Batch.state == BatchState.LEASED, Batch.lease_until < func.now(), Batch.attempt < max_attempts)
        .values(state=BatchState.QUEUED, token=None, lease_until=None, published_at=None)
    )
    poisoned = session.execute(
        select(Batch)
        .where(Batch.state == BatchState.LEASED, Batch.lease_until < func.now())
        .order_by(Batch.id)
        .with_for_update(skip_locked=True)
    ).scalars()
    isolated, expired, failed = 0, int(requeued.rowcount), Counter[LedgerReason]()
    for batch in poisoned:
        failed["poison"] += _isolate(session, batch, max_attempts, kept_bytes)
        isolated, expired = isolated + 1, expired + 1
    failing = session.execute(
        select(Batch)
        .where(Batch.state == BatchState.QUEUED, Batch.errors >= max_errors)
        .order_by(Batch.id)
        .with_for_update(skip_locked=True)
    ).scalars()
    for batch in failing:
        why = f"all {batch.errors} tries failed, the last one: {batch.message}"
        failed["error"] += bury(session, batch, "error", why, kept_bytes=kept_bytes)
        isolated += 1
    return Rescued(expired, isolated, failed)


def _isolate(session: Session, batch: Batch, max_attempts: int, kept_bytes: int) -> int:
    """How many digits failed by it."""
    if len(batch.digits) > 1:
        close(batch, BatchState.SPLIT)
        size = -(-len(batch.digits) // PARTS)
        for start in range(0, len(batch.digits), size):
            part = batch.digits[start : start + size]
            # The parts are suspects already: one more crash is enough. A digit alone gets a second chance, since
            # something else may have crashed its worker.
            attempt = max(max_attempts - (1 if len(part) > 1 else 2), 0)
            session.execute(
                insert(Batch).values(
                    job=batch.job, parent=batch.id, state=BatchState.QUEUED, digits=part, attempt=attempt
                )
            )
        return 0
    why = f"its worker died {batch.attempt} times on it, last {batch.worker}"
    return bury(session, batch, "poison", why, kept_bytes=kept_bytes)


def take_due(session: Session, kind: JobKind, *, republish_after: float, in_flight: int) -> list[tuple[int, JobKind]]:
    """Take queued batches of a kind that are due for publishing, oldest first, and note that they are published now.

    (id, kind) of each. Due is a batch that was never published, or more than `republish_after` seconds ago, and need
    not wait after an error or while it is paused; those published since and not yet claimed stay below `in_flight`.
    """
    due = or_(Batch.published_at.is_(None), Batch.published_at < func.now() - interval(republish_after))
    waits = and_(Batch.retry_at.isnot(None), Batch.retry_at > func.now())
    out = session.execute(
        select(func.count())
        .select_from(Batch)
        .join(Job)
        .where(Batch.state == BatchState.QUEUED, ~due, Job.kind == kind)
    ).scalar_one()
    if out >= in_flight:
        return []
    has_tower = exists(select(Tower.id).where(is_maintained(), or_(Job.tower.is_(None), Job.tower == Tower.id)))
    chosen = (
        select(Batch.id)
        .join(Job, Job.id == Batch.job)
        .where(Batch.state == BatchState.QUEUED, due, ~waits, Job.kind == kind)
        .where(or_(Job.kind == JobKind.TRAIN, has_tower), ~is_held())
        .order_by(Batch.id)
        .limit(in_flight - out)
        .with_for_update(of=Batch, skip_locked=True)
    )
    taken = session.execute(
        update(Batch)
        .where(Batch.id.in_(chosen.scalar_subquery()), Batch.job == Job.id)
        .values(published_at=func.now())
        .returning(Batch.id, Job.kind)
    )
    return sorted((row.id, row.kind) for row in taken)
