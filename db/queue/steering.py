"""Pausing lanes and jobs, and letting them go on. It must not know what a pause holds back: `pauses` does."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import NotPausable, UnknownJob
from db.queue.jobs import status
from db.queue.pauses import KINDS, Pause, counted, of_lane
from db.states import FINAL, BatchState
from db.tables import Batch, Job, LanePause


def pause_lane(session: Session, lane: str, *, by: str, why: str | None, drain: bool = False) -> Pause:
    """Pause a lane, in place of what paused it before.

    drain: what waits there now is still worked on, and nothing that comes later; of `intake`, what waits in the broker.
    """
    newest = select(func.coalesce(func.max(Batch.id), 0)).scalar_subquery() if drain else None
    values: dict[str, Any] = {
        "paused_by": by,
        "paused_at": func.now(),
        "why": why,
        "upto": newest,
        "resumed_by": None,
        "resumed_at": None,
    }
    statement = insert(LanePause).values(lane=lane, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["lane"], set_=values))
    pause = of_lane(session, lane)
    assert pause is not None
    return counted(session, pause)


def resume_lane(session: Session, lane: str, *, by: str) -> bool:
    """Let a lane go on; whether it was paused. What it held is published at once by whoever publishes next."""
    ended = (
        update(LanePause)
        .where(LanePause.lane == lane, LanePause.resumed_at.is_(None))
        .values(resumed_at=func.now(), resumed_by=by)
        .returning(LanePause.lane)
    )
    was_paused = session.execute(ended).scalar() is not None
    if was_paused and lane in KINDS:
        _publish_again(session, Job.kind.in_(KINDS[lane]))
    return was_paused


def pause_job(session: Session, id: uuid.UUID, *, by: str, why: str | None) -> Pause:
    """Pause a job that has not ended. Raises UnknownJob, NotPausable."""
    job = _job(session, id)
    if (state := status(session, id).state) in FINAL:
        raise NotPausable(f"job {id} is {state}: there is nothing left to pause")
    job.paused_by, job.paused_at, job.paused_because = by, session.execute(select(func.now())).scalar_one(), why
    session.flush()
    return Pause(by=by, at=job.paused_at.isoformat(), why=why)


def resume_job(session: Session, id: uuid.UUID) -> bool:
    """Let a job go on; whether it was paused. Raises UnknownJob."""
    job = _job(session, id)
    was_paused = job.paused_at is not None
    if was_paused:
        job.paused_by = job.paused_at = job.paused_because = None
        session.flush()
        _publish_again(session, Job.id == id)
    return was_paused


def _job(session: Session, id: uuid.UUID) -> Job:
    query = select(Job).where(Job.id == id, Job.pruned_at.is_(None)).with_for_update(key_share=True)
    job = session.execute(query).scalar()
    if job is None:
        raise UnknownJob(f"no job has the id {id}")
    return job


def _publish_again(session: Session, which: ColumnElement[bool]) -> None:
    """Let queued batches be due for publishing: the messages for them were dropped meanwhile."""
    session.execute(
        update(Batch)
        .where(Batch.job == Job.id, which, Batch.state == BatchState.QUEUED, Batch.published_at.isnot(None))
        .values(published_at=None)
    )
