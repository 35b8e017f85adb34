"""Which callbacks are due: jobs that have ended and name a task of their caller's. It must not know the broker."""

from __future__ import annotations

import uuid

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from db.queue.jobs import JobStatus, status
from db.states import OPEN, JobKind
from db.tables import Batch, Job


def due(session: Session, *, limit: int = 100) -> list[uuid.UUID]:
    """Jobs that have ended and whose callback has not been called, oldest first."""
    query = select(Job.id).where(*_uncalled()).order_by(Job.created_at).limit(limit)
    return list(session.execute(query).scalars())


def take(session: Session, id: uuid.UUID) -> tuple[dict[str, str], JobStatus] | None:
    """The (callback, status) of a job whose callback is due, its row locked until commit; None where it is not due."""
    query = select(Job).where(Job.id == id, *_uncalled()).with_for_update(key_share=True, skip_locked=True)
    job = session.execute(query).scalar()
    if job is None or job.callback is None:
        return None
    job.called_back_at = func.now()
    return job.callback, status(session, id)


def _uncalled() -> tuple[ColumnElement[bool], ...]:
    parts = select(Batch.id).where(Batch.job == Job.id)
    all_here = select(func.count(Batch.seq)).where(Batch.job == Job.id).scalar_subquery() >= Job.chunks
    no_more_come = all_here | Job.abandoned_at.isnot(None)
    embedded = (Job.kind == JobKind.EMBED) & no_more_come & ~exists(parts.where(Batch.state.in_(OPEN)))
    ended = Job.ended_at.isnot(None) | Job.cancelled_at.isnot(None) | embedded
    return Job.callback.isnot(None), Job.called_back_at.is_(None), Job.pruned_at.is_(None), ended
