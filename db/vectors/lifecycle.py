"""The status of a tower: candidate -> live -> previous -> retired, or rejected. It must not know models or Celery."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import locks
from db.tables import Job, Tower
from db.vectors import partitions
from db.vectors.backfill import end_jobs, queue_missing
from db.vectors.towers import live


def register(session: Session, tower: dict[str, Any]) -> Tower:
    """Store a trained tower (the columns of `towers`, less id, status and times) and create its partition.

    The first one goes live at once. A later one is the candidate: from this commit on new digits are embedded under it
    as well, and the stored ones are queued for backfill. An older candidate is rejected. A tower whose weights are
    registered already is not stored again.
    """
    locks.change_towers(session)
    known = session.execute(select(Tower).where(Tower.fingerprint == tower["fingerprint"])).scalar()
    if known is not None and known.status in ("live", "candidate"):
        return known
    first = session.execute(select(Tower.id).where(Tower.status == "live")).scalar() is None
    for older in session.execute(select(Tower.id).where(Tower.status == "candidate")).scalars().all():
        _reject(session, older, "a newer training took its place")
    status = "live" if first else "candidate"
    promoted_at = func.now() if first else None
    if known is not None:
        partitions.drop_partition(session, known.id)
        session.execute(
            update(Tower)
            .where(Tower.id == known.id)
            .values(status=status, promoted_at=promoted_at, created_at=func.now())
        )
        id = known.id
    else:
        id = session.execute(
            insert(Tower).values(**tower, status=status, promoted_at=promoted_at).returning(Tower.id)
        ).scalar_one()
    partitions.create_partition(session, id)
    if not first:
        queue_missing(session, id)
    session.expire_all()
    return session.execute(select(Tower).where(Tower.id == id)).scalar_one()


def reject(session: Session, tower: int, why: str) -> bool:
    """Reject a candidate; False where the tower is not (or no longer) a candidate."""
    locks.change_towers(session)
    status = session.execute(select(Tower.status).where(Tower.id == tower)).scalar()
    if status == "candidate":
        _reject(session, tower, why)
    return status == "candidate"


def _reject(session: Session, tower: int, why: str) -> None:
    session.execute(update(Tower).where(Tower.id == tower).values(status="rejected"))
    end_jobs(session, tower, why)


def promote_ready(session: Session) -> Tower | None:
    """Promote the candidate if every digit that is embedded under the live tower is embedded under it as well.

    Counted in the vectors themselves, not taken from a job's state. What is missing once its backfill has ended is
    queued again. The old tower becomes `previous`, and the one before that is retired.
    """
    ready = select(Tower.id).where(Tower.status == "candidate", ~_is_backfilling(Tower.id))
    if session.execute(ready).scalar() is None:
        return None
    locks.change_towers(session)
    candidate = session.execute(ready).scalar()  # again: another may have come while this waited
    if candidate is None:
        return None
    if (why := _backfill_failure(session, candidate)) is not None:
        _reject(session, candidate, why)
        return None
    if queue_missing(session, candidate):
        return None
    session.execute(update(Tower).where(Tower.status == "previous").values(status="retired"))
    old = session.execute(
        update(Tower).where(Tower.status == "live").values(status="previous").returning(Tower.id)
    ).scalar_one()
    end_jobs(session, old, f"tower {candidate} went live in its place")
    session.execute(update(Tower).where(Tower.id == candidate).values(status="live", promoted_at=func.now()))
    session.expire_all()
    return live(session)


def _is_backfilling(tower: Any) -> ColumnElement[bool]:
    return exists(select(Job.id).where(Job.tower == tower, Job.kind == "backfill", Job.ended_at.is_(None)))


def _backfill_failure(session: Session, candidate: int) -> str | None:
    """Why a backfill failed since the candidate was registered; the same weights may have been rejected before."""
    query = (
        select(Job.message)
        .join(Tower, Tower.id == Job.tower)
        .where(
            Tower.id == candidate, Job.kind == "backfill", Job.message.isnot(None), Job.created_at >= Tower.created_at
        )
    )
    return session.execute(query.limit(1)).scalar()
