"""How far a training is that goes on until its tower is live or rejected. It must not change a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.states import OPEN, BatchState, JobKind, TowerStatus
from db.tables import Batch, Job, Tower


@dataclass(frozen=True)
class Stage:
    """name: `waiting`, `training`, `backfill`, `judging`; then how it ended: the tower's status.

    tower: that was made. done, total: digits of the backfill. remaining: seconds of it, as it goes now.
    """

    name: str
    tower: int | None = None
    done: int | None = None
    total: int | None = None
    remaining: float | None = None


def of(session: Session, job: Job) -> dict[str, Any] | None:
    """The stage of a training that is to promote its tower; None of any other job, and of one that ended without."""
    if job.kind != JobKind.TRAIN or not job.parameters.get("promotes"):
        return None
    if job.outcome is None:
        return None if job.ended_at is not None else asdict(Stage(_before(session, job)))
    tower = int(job.outcome["tower"])
    if job.ended_at is not None:
        return asdict(Stage(job.outcome["status"], tower))
    return asdict(_after(session, tower))


def _before(session: Session, job: Job) -> str:
    state = session.execute(select(Batch.state).where(Batch.job == job.id)).scalar()
    return "training" if state == BatchState.LEASED else "waiting"


def _after(session: Session, tower: int) -> Stage:
    """Of a tower that is stored."""
    status = session.execute(select(Tower.status).where(Tower.id == tower)).scalar_one()
    if status != TowerStatus.CANDIDATE:
        return Stage(status, tower)
    still_open = func.sum(Batch.items).filter(Batch.state.in_(OPEN))
    begun = func.extract("epoch", func.clock_timestamp() - func.min(Job.created_at))
    query = select(func.coalesce(func.sum(Batch.items), 0), func.coalesce(still_open, 0), begun).join(Job)
    since = select(Tower.created_at).where(Tower.id == tower).scalar_subquery()
    of_tower = (Job.tower == tower, Job.kind == JobKind.BACKFILL, Job.created_at >= since)
    total, left, seconds = session.execute(query.where(*of_tower)).one()
    if not left:
        return Stage("judging", tower)
    done = int(total) - int(left)
    return Stage("backfill", tower, done, int(total), float(seconds) / done * int(left) if done else None)
