"""Cancelling jobs: finished batches stay, open ones are cancelled. It must not know processes: the fence stops them."""

from __future__ import annotations

import uuid

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from db import locks
from db.errors import UnknownJob
from db.queue.dead import close
from db.queue.failures import waiting_for
from db.queue.jobs import status
from db.queue.trainings import forget
from db.states import EMBEDDED_UNDER, FINAL, OPEN, BatchState, JobKind
from db.tables import Batch, Digit, Embedding, Job, Tower
from db.vectors import lifecycle


def cancel_job(session: Session, id: uuid.UUID) -> bool:
    """Cancel a job: finished batches stay, open ones are cancelled. An ended job is left as it is: False.

    The candidate of a training that was to promote it is rejected. Raises UnknownJob.
    """
    row = session.execute(
        select(Job).where(Job.id == id, Job.pruned_at.is_(None)).with_for_update(key_share=True)
    ).scalar()
    if row is None:
        raise UnknownJob(f"no job has the id {id}")
    if status(session, id).state in FINAL:
        return False
    row.cancelled_at = func.now()
    if row.kind != JobKind.EMBED:
        row.ended_at = func.now()
    if row.kind == JobKind.TRAIN and row.outcome is not None:
        lifecycle.reject(session, row.outcome["tower"], f"its training {id} was cancelled")
    cancel_open(session, id)
    if row.kind == JobKind.TRAIN:
        forget(session, id)  # once its batch is closed: its holder can keep nothing more
    return True


def cancel_open(session: Session, job: uuid.UUID) -> None:
    """Cancel a job's open batches: their holders are fenced, and their digits without a vector are deleted.

    Digits that another job waits for stay.
    """
    batches = (
        session.execute(
            select(Batch).where(Batch.job == job, Batch.state.in_(OPEN)).order_by(Batch.id).with_for_update()
        )
        .scalars()
        .all()
    )
    for batch in batches:
        close(batch, BatchState.CANCELLED)
        batch.dropped = len(batch.digits)
    # Locked before the jobs that wait for them are read: a job that comes to wait for one locks it as well.
    listed = [id for batch in batches for id in batch.digits]
    brought = Digit.job.in_(select(Job.id).where(Job.cancelled_at.isnot(None)))  # by this job, or one cancelled before
    query = select(Digit.id).where(Digit.id == func.any(listed), brought).order_by(Digit.id).with_for_update(of=Digit)
    unwanted = set(session.execute(query).scalars())
    unwanted.difference_update(*waiting_for(session, list(unwanted)).values())
    locks.remove_digits(session)
    has_vector = exists(
        select(Embedding.digit).where(
            Embedding.tower.in_(select(Tower.id).where(Tower.status.in_(EMBEDDED_UNDER))),
            Embedding.digit == Digit.id,
        )
    )
    session.execute(delete(Digit).where(Digit.id == func.any(list(unwanted)), ~has_vector))
