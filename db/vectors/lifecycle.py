"""The status of a tower: candidate -> live -> previous -> retired, or rejected. It must not know models or Celery."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import locks
from db.states import EMBEDDED_UNDER, JobKind, TowerStatus
from db.tables import Job, Tower
from db.vectors import partitions
from db.vectors.backfill import end_jobs, queue_missing


@dataclass(frozen=True, kw_only=True)
class NewTower:
    """A trained tower as it is registered: what `towers` holds, less what the ledger adds.

    file: the bytes of the `.keras` file. fingerprint: SHA-256 of its weights, hex. frame: of its space, as
    `db.vectors.frame` writes it; None where there is none, and every query compares all vectors. gate: as
    `training.fit.gate` writes it; None where there is none, and no digit is doubtful. lineage: what it was trained on,
    by which versions, and who or what started that.
    """

    fingerprint: str
    file: bytes
    recipe: str
    settings: dict[str, Any]
    seed: int
    data_digest: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    threshold: float
    frame: bytes | None = None
    gate: bytes | None = None
    lineage: dict[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """What became of a candidate: it went live, or was rejected for a reason."""

    tower: int
    fingerprint: str
    rejected_because: str | None = None


def register(session: Session, tower: NewTower) -> Tower:
    """Store a trained tower and create the partition of its vectors.

    The first one goes live at once; a later one is the candidate, from this commit on embedded under beside the live
    one, and the stored digits are queued to be. A candidate whose backfill still ran is rejected in its favour.
    Weights that are registered already are not registered twice.
    """
    locks.change_towers(session)
    known = session.execute(select(Tower).where(Tower.fingerprint == tower.fingerprint)).scalar()
    if known is not None and known.status in EMBEDDED_UNDER:
        return known
    first = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar() is None
    for older in session.execute(select(Tower.id).where(Tower.status == TowerStatus.CANDIDATE)).scalars().all():
        _reject(session, older, "a newer training took its place")
    status = TowerStatus.LIVE if first else TowerStatus.CANDIDATE
    promoted_at = func.now() if first else None
    if known is not None:
        partitions.drop_partition(session, known.id)
        session.execute(
            update(Tower)
            .where(Tower.id == known.id)
            .values(
                status=status,
                promoted_at=promoted_at,
                created_at=func.now(),
                retired_at=None,
                file=tower.file,  # the one of before may be pruned
                file_digest=hashlib.sha256(tower.file).digest(),
                frame=func.coalesce(Tower.frame, tower.frame),  # processes remember the one there was
                gate=func.coalesce(Tower.gate, tower.gate),
                lineage=tower.lineage,
            )
        )
        id = known.id
    else:
        id = session.execute(
            insert(Tower)
            .values(
                **vars(tower),
                file_digest=hashlib.sha256(tower.file).digest(),
                status=status,
                promoted_at=promoted_at,
            )
            .returning(Tower.id)
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
    if status == TowerStatus.CANDIDATE:
        _reject(session, tower, why)
    return status == TowerStatus.CANDIDATE


def _reject(session: Session, tower: int, why: str) -> None:
    session.execute(update(Tower).where(Tower.id == tower).values(status=TowerStatus.REJECTED, retired_at=func.now()))
    end_jobs(session, tower, why)


def promote_ready(session: Session) -> Decision | None:
    """Decide on the candidate once its backfill has ended: promote or reject it. None where it is too early.

    Counted in the vectors themselves, not taken on a task's word. What is found missing is queued again.
    """
    ready = select(Tower).where(Tower.status == TowerStatus.CANDIDATE, ~_is_backfilling(Tower.id))
    if session.execute(ready).scalar() is None:
        return None
    locks.change_towers(session)
    candidate = session.execute(ready).scalar()  # looked up anew: another may have come while this waited
    if candidate is None:
        return None
    if (fault := _backfill_failure(session, candidate.id)) is not None:
        _reject(session, candidate.id, fault)
        return Decision(candidate.id, candidate.fingerprint, rejected_because=fault)
    if queue_missing(session, candidate.id):
        return None
    _promote(session, candidate.id)
    return Decision(candidate.id, candidate.fingerprint)


def _promote(session: Session, candidate: int) -> None:
    """Let the candidate go live. The old tower stays as `previous`, and the one before that is retired."""
    session.execute(
        update(Tower)
        .where(Tower.status == TowerStatus.PREVIOUS)
        .values(status=TowerStatus.RETIRED, retired_at=func.now())
    )
    old = session.execute(
        update(Tower).where(Tower.status == TowerStatus.LIVE).values(status=TowerStatus.PREVIOUS).returning(Tower.id)
    ).scalar_one()
    end_jobs(session, old, f"tower {candidate} went live in its place")
    session.execute(update(Tower).where(Tower.id == candidate).values(status=TowerStatus.LIVE, promoted_at=func.now()))
    session.expire_all()


def _is_backfilling(tower: Any) -> ColumnElement[bool]:
    return exists(select(Job.id).where(Job.tower == tower, Job.kind == JobKind.BACKFILL, Job.ended_at.is_(None)))


def _backfill_failure(session: Session, candidate: int) -> str | None:
    """Why a backfill failed since the candidate was registered; the same weights may have been rejected before."""
    query = (
        select(Job.message)
        .join(Tower, Tower.id == Job.tower)
        .where(
            Tower.id == candidate,
            Job.kind == JobKind.BACKFILL,
            Job.message.isnot(None),
            Job.created_at >= Tower.created_at,
        )
    )
    return session.execute(query.limit(1)).scalar()
