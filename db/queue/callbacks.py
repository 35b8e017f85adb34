"""Which callbacks are due: jobs that have ended and name a task of their caller's. It must not know the broker."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db.queue.jobs import JobStatus, status
from db.queue.leases import interval
from db.states import OPEN, JobKind
from db.tables import Batch, Job

PAUSE, LONGEST_PAUSE = 5.0, 1800.0  # seconds after the second call that failed, doubled with each, and at most
ANEW: dict[str, Any] = {  # of a job that goes on: at its end it is called back as if for the first time
    "called_back_at": None,
    "callback_errors": 0,
    "callback_message": None,
    "callback_retry_at": None,
    "callback_given_up_at": None,
}


def due(session: Session, *, limit: int = 100) -> list[uuid.UUID]:
    """Jobs that have ended and whose callback is to be called now: those never tried first, oldest first."""
    order = (Job.callback_retry_at.asc().nulls_first(), Job.created_at)
    return list(session.execute(select(Job.id).where(*_due()).order_by(*order).limit(limit)).scalars())


def take(session: Session, id: uuid.UUID) -> tuple[dict[str, str], JobStatus] | None:
    """The (callback, status) of a job whose callback is due, its row locked until commit; None where it is not due."""
    query = select(Job).where(Job.id == id, *_due()).with_for_update(key_share=True, skip_locked=True)
    job = session.execute(query).scalar()
    if job is None or job.callback is None:
        return None
    job.called_back_at, job.callback_message = func.now(), None
    return job.callback, status(session, id)


def postpone(session: Session, id: uuid.UUID, message: str, *, most: int) -> bool:
    """Note that a call failed: the second is made soon, the others later and later; whether it was given up.

    most: calls that fail, after which it is.
    """
    seconds = func.least(PAUSE * (func.power(2, func.least(Job.callback_errors, 16)) - 1), LONGEST_PAUSE)
    failed = {
        "callback_errors": Job.callback_errors + 1,
        "callback_message": message,
        "callback_retry_at": func.now() + seconds * interval(1),
    }
    uncalled = (Job.id == id, Job.called_back_at.is_(None))
    errors = session.execute(update(Job).where(*uncalled).values(failed).returning(Job.callback_errors)).scalar()
    if errors is None or errors < most:
        return False
    session.execute(update(Job).where(*uncalled).values(callback_given_up_at=func.now()))
    return True


def _due() -> tuple[ColumnElement[bool], ...]:
    waits_no_more = or_(Job.callback_retry_at.is_(None), Job.callback_retry_at <= func.now())
    return *_uncalled(), waits_no_more, Job.callback_given_up_at.is_(None)


def _uncalled() -> tuple[ColumnElement[bool], ...]:
    parts = select(Batch.id).where(Batch.job == Job.id)
    all_here = select(func.count(Batch.seq)).where(Batch.job == Job.id).scalar_subquery() >= Job.chunks
    no_more_come = all_here | Job.abandoned_at.isnot(None)
    embedded = (Job.kind == JobKind.EMBED) & no_more_come & ~exists(parts.where(Batch.state.in_(OPEN)))
    ended = Job.ended_at.isnot(None) | Job.cancelled_at.isnot(None) | embedded
    return Job.callback.isnot(None), Job.called_back_at.is_(None), Job.pruned_at.is_(None), ended
