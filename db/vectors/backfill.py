"""Backfill: which stored digits lack a vector under a tower, and the jobs that embed them. It must not know a model."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from db import locks
from db.states import OPEN, BatchState, JobKind, TowerStatus
from db.tables import Batch, Digit, Embedding, Job, Tower

BACKFILL_BATCH = 4096  # digits


def queue_missing(session: Session, tower: int) -> int:
    """Queue the digits that have a vector under the live tower and none under this one; how many they are."""
    due = select(Embedding.digit).where(
        Embedding.tower == select(Tower.id).where(Tower.status == TowerStatus.LIVE).scalar_subquery()
    )
    return _queue(session, tower, due.where(~embedded_under(tower, Embedding.digit)))


def queue_due(session: Session) -> int:
    """Queue the digits that have no vector under the live tower and are in no open batch; how many they are.

    For instance after a restore, or where a tower's vectors were lost: the stored pixels are enough to compute them.
    """
    locks.hold_towers(session)
    tower = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    if tower is None:
        return 0
    waiting = (
        select(func.unnest(Batch.digits))
        .join(Job, Job.id == Batch.job)
        # A digit that crashed its workers would do so again; a dead batch of a backfill counts for its tower alone.
        .where(or_(Batch.state.in_(OPEN), and_(Batch.state == BatchState.DEAD, _concerns(tower))))
    )
    due = select(Digit.id).where(~embedded_under(tower, Digit.id), Digit.id.not_in(waiting))
    return _queue(session, tower, due)


def end_finished(session: Session) -> None:
    """End the backfills that have no open batch left."""
    still_open = exists(select(Batch.id).where(Batch.job == Job.id, Batch.state.in_(OPEN)))
    session.execute(
        update(Job).where(Job.kind == JobKind.BACKFILL, Job.ended_at.is_(None), ~still_open).values(ended_at=func.now())
    )


def end_jobs(session: Session, tower: int, why: str) -> None:
    """End the backfills of a tower and cancel their open batches: they would never be claimed again."""
    jobs = session.execute(select(Job.id).where(Job.tower == tower).with_for_update()).scalars().all()
    session.execute(
        update(Job).where(Job.id.in_(jobs), Job.ended_at.is_(None)).values(message=why, ended_at=func.now())
    )
    session.execute(  # also of a backfill that has ended: one ends as soon as a batch of it is dead
        update(Batch)
        .where(Batch.job.in_(jobs), Batch.state.in_(OPEN))
        .values(
            state=BatchState.CANCELLED,
            token=None,
            lease_until=None,
            finished_at=func.now(),
            dropped=func.cardinality(Batch.digits),
        )
    )


def given_up(session: Session, tower: int) -> int:
    """How many stored digits have no vector under a tower because their batch is dead."""
    dead = select(func.unnest(Batch.digits)).join(Job).where(Batch.state == BatchState.DEAD, _concerns(tower))
    query = select(func.count()).where(Digit.id.in_(dead), ~embedded_under(tower, Digit.id))
    return session.execute(query).scalar_one()


def embedded_under(tower: Any, digit: Any) -> ColumnElement[bool]:
    there = aliased(Embedding)
    return exists(select(there.digit).where(there.tower == tower, there.digit == digit))


def _concerns(tower: int) -> ColumnElement[bool]:
    """Whether a dead batch of this job counts under a tower; one of a backfill counts under that backfill's alone."""
    return or_(Job.kind == JobKind.EMBED, Job.tower == tower)


def _queue(session: Session, tower: int, digits: Any) -> int:
    """One backfill job with batches of BACKFILL_BATCH digits, by id; how many digits."""
    ids = list(session.execute(digits.order_by(text("1"))).scalars())
    if not ids:
        return 0
    parts = [ids[start : start + BACKFILL_BATCH] for start in range(0, len(ids), BACKFILL_BATCH)]
    job = uuid.uuid4()
    session.execute(
        insert(Job).values(id=job, kind=JobKind.BACKFILL, tower=tower, total=len(ids), chunks=len(parts), parameters={})
    )
    session.execute(
        insert(Batch),
        [
            {"job": job, "seq": seq, "state": BatchState.QUEUED, "digits": part, "items": len(part)}
            for seq, part in enumerate(parts)
        ],
    )
    return len(ids)
