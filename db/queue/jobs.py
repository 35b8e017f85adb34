"""The state and the counts of jobs. Counts are sums over batches: no row is hot, and none can drift."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Integer, case, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from db.errors import UnknownJob
from db.tables import Batch, Job, Tower


def status(session: Session, id: uuid.UUID) -> dict[str, Any]:
    """One job, with the fields of the client's `JobStatus`. Raises UnknownJob."""
    rows = _statuses(session, Job.id == id, limit=1)
    if not rows:
        raise UnknownJob(f"no job has the id {id}")
    return rows[0]


def latest(session: Session, *, limit: int) -> list[dict[str, Any]]:
    """The newest jobs, newest first."""
    return _statuses(session, Job.created_at.isnot(None), limit=limit)


def _statuses(session: Session, which: ColumnElement[bool], *, limit: int) -> list[dict[str, Any]]:
    chosen = select(Job.id).where(which).order_by(Job.created_at.desc()).limit(limit)
    is_open = Batch.state.in_(["queued", "leased"])

    def total(column: Any) -> ColumnElement[int]:
        return sql_cast(func.coalesce(func.sum(column), 0), Integer)

    query = (
        select(
            Job,
            total(Batch.items).label("accepted"),
            total(Batch.embedded).label("succeeded"),
            total(Batch.unchanged).label("unchanged"),
            total(Batch.failed).label("failed"),
            total(Batch.dropped).label("dropped"),
            func.count(Batch.seq).label("chunks_accepted"),
            total(case((is_open, 1), else_=0)).label("open"),
            total(case((Batch.state == "leased", 1), else_=0)).label("leased"),
            func.extract(
                "epoch",
                case(
                    (Job.ended_at.isnot(None), Job.ended_at),
                    (Job.cancelled_at.isnot(None), Job.cancelled_at),
                    (func.bool_or(is_open) | Job.chunks.is_(None), func.clock_timestamp()),
                    else_=func.coalesce(func.max(Batch.finished_at), Job.created_at),
                )
                - Job.created_at,
            ).label("seconds"),
        )
        .outerjoin(Batch, Batch.job == Job.id)
        .where(Job.id.in_(chosen))
        .group_by(Job.id)
        .order_by(Job.created_at.desc())
    )
    towers = session.execute(select(func.count()).where(Tower.status.in_(["live", "candidate"]))).scalar_one()
    return [_describe(row, has_tower=bool(towers)) for row in session.execute(query)]


def _describe(row: Any, *, has_tower: bool) -> dict[str, Any]:
    job: Job = row.Job
    return {
        "id": str(job.id),
        "kind": job.kind,
        "collection": job.collection,
        "state": _embed_state(job, row, has_tower) if job.kind == "embed" else _other_state(job, row),
        "total": job.total,
        "accepted": row.accepted,
        "succeeded": row.succeeded,
        "unchanged": row.unchanged,
        "failed": row.failed,
        "cancelled": row.dropped,
        "created_at": job.created_at.isoformat(),
        "seconds": float(row.seconds),
        "message": job.message,
        "progress": job.progress,
        "outcome": job.outcome,
    }


def _embed_state(job: Job, row: Any, has_tower: bool) -> str:
    if job.cancelled_at is not None:
        return "cancelled"
    if job.chunks is None or row.chunks_accepted < job.chunks:
        return "receiving"
    if not row.open:
        return "finished_with_failures" if row.failed else "finished"
    if not has_tower:
        return "waiting_for_tower"
    return "running" if row.leased or row.succeeded else "queued"


def _other_state(job: Job, row: Any) -> str:
    if job.cancelled_at is not None:
        return "cancelled"
    if job.ended_at is not None:
        return "failed" if job.message else "finished"
    return "running" if row.leased or row.succeeded else "queued"
