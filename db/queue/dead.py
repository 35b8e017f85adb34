"""Dead batches, which crashed their worker or failed again and again: listed, and requeued once the cause is fixed.

It must not know vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db.errors import NotRescuable, UnknownBatch
from db.queue.callbacks import ANEW
from db.queue.failures import KEPT_BYTES, OF_DEAD, LedgerReason, fail
from db.queue.trainings import forget
from db.states import BatchState, JobKind
from db.tables import Batch, Digit, Failure, Job, Tower
from db.vectors.towers import is_maintained


@dataclass(frozen=True, kw_only=True)
class DeadBatch:
    """A batch that was given up: why, after how many attempts, and which worker held it last.

    kind: of its job. digits: how many it holds. died_at: ISO 8601.
    """

    id: int
    job: str
    kind: JobKind
    digits: int
    attempts: int
    worker: str | None
    message: str | None
    died_at: str | None


def page(session: Session, *, limit: int) -> list[DeadBatch]:
    """The newest dead batches, newest first."""
    query = (
        select(Batch, Job.kind)
        .join(Job)
        .where(Batch.state == BatchState.DEAD, Job.pruned_at.is_(None))
        .order_by(Batch.id.desc())
        .limit(limit)
    )
    return [
        DeadBatch(
            id=batch.id,
            job=str(batch.job),
            kind=kind,
            digits=len(batch.digits),
            attempts=batch.attempt,
            worker=batch.worker,
            message=batch.message,
            died_at=None if batch.finished_at is None else batch.finished_at.isoformat(),
        )
        for batch, kind in session.execute(query)
    ]


def requeue(session: Session, id: int) -> tuple[str, JobKind]:
    """Queue a dead batch again with no attempts, and delete its failures; its job's (id, kind).

    What else failed under its keys stays listed. The job is open again, and calls back again when it ends. Raises
    UnknownBatch, and NotRescuable where its job was cancelled, its tower is retired or rejected, or it is a training.
    """
    found = select(Batch).join(Job).where(Batch.id == id, Batch.state == BatchState.DEAD, Job.pruned_at.is_(None))
    batch = session.execute(found.with_for_update(of=Batch)).scalar()
    held = select(Job).where(Job.id == (batch and batch.job), Job.pruned_at.is_(None)).with_for_update()
    job = session.execute(held).scalar()
    if batch is None or job is None:
        raise UnknownBatch(f"no dead batch has the id {id}: `twinvec dead` lists them")
    _check(session, id, job)
    stored = select(Digit.id, Digit.key).where(Digit.id == func.any(batch.digits)).order_by(Digit.id)
    digits = session.execute(stored.with_for_update()).all()
    struck = session.execute(
        delete(Failure)
        .where(Failure.job == job.id, Failure.key.in_([row.key for row in digits]), Failure.reason.in_(OF_DEAD))
        .returning(Failure.key)
    ).all()
    batch.failed -= len(struck)
    batch.digits = [row.id for row in digits]
    batch.state, batch.attempt, batch.errors, batch.message = BatchState.QUEUED, 0, 0, None
    batch.finished_at = batch.published_at = batch.retry_at = None
    for name, value in ANEW.items():
        setattr(job, name, value)
    if job.kind != JobKind.EMBED:
        job.ended_at, job.message = None, None
        batch.failed = 0
    return str(job.id), job.kind


def _check(session: Session, id: int, job: Job) -> None:
    if job.kind == JobKind.TRAIN:
        raise NotRescuable(f"batch {id} is a training: start another with `twinvec train`")
    if job.cancelled_at is not None:
        raise NotRescuable(f"job {job.id} of batch {id} was cancelled: send its pictures as a new job")
    if job.tower is not None:
        status = session.execute(select(Tower.status).where(Tower.id == job.tower)).scalar_one()
        if session.execute(select(Tower.id).where(Tower.id == job.tower, is_maintained())).scalar() is None:
            raise NotRescuable(f"batch {id} was to embed under tower {job.tower}, which is {status}")


def bury(session: Session, batch: Batch, reason: LedgerReason, why: str, *, kept_bytes: int = KEPT_BYTES) -> int:
    """Close a batch for good. Its digits are failures of their job; they stay stored, and are not retried.

    How many of them a caller waits for.
    """
    job = session.execute(select(Job).where(Job.id == batch.job)).scalar_one()
    if job.kind == JobKind.EMBED:
        fail(session, job.id, batch.digits, reason, why, kept_bytes=kept_bytes)
    else:
        job.message, job.ended_at = f"batch {batch.id}: {why}", func.now()
        forget(session, job.id)
    batch.failed = (batch.failed or 0) + len(batch.digits)
    batch.message = why
    close(batch, BatchState.DEAD)
    return len(batch.digits) if job.kind == JobKind.EMBED else 0


def close(batch: Batch, state: BatchState) -> None:
    """Take a batch from its holder, for good."""
    batch.state, batch.token, batch.lease_until, batch.finished_at = state, None, None, func.now()
