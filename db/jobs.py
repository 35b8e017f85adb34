"""Jobs, and where they stand: counts are sums over batches, so no row is hot and none can drift."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, case, exists, func, literal, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import batches
from db.errors import TrainingRunning, UnknownJob
from db.tables import Batch, Job, Tower


def status(session: Session, id: uuid.UUID) -> dict[str, Any]:
    """One job, as `JobStatus` names its fields. Raises UnknownJob."""
    rows = _statuses(session, Job.id == id, limit=1)
    if not rows:
        raise UnknownJob(f"no job has the id {id}")
    return rows[0]


def latest(session: Session, *, limit: int) -> list[dict[str, Any]]:
    """The newest jobs, newest first."""
    return _statuses(session, Job.created.isnot(None), limit=limit)


def _statuses(session: Session, which: ColumnElement[bool], *, limit: int) -> list[dict[str, Any]]:
    chosen = select(Job.id).where(which).order_by(Job.created.desc()).limit(limit)
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
                    (Job.ended.isnot(None), Job.ended),
                    (Job.cancelled.isnot(None), Job.cancelled),
                    (func.bool_or(is_open) | Job.chunks.is_(None), func.clock_timestamp()),
                    else_=func.coalesce(func.max(Batch.finished), Job.created),
                )
                - Job.created,
            ).label("seconds"),
        )
        .outerjoin(Batch, Batch.job == Job.id)
        .where(Job.id.in_(chosen))
        .group_by(Job.id)
        .order_by(Job.created.desc())
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
        "created": job.created.isoformat(),
        "seconds": float(row.seconds),
        "message": job.message,
        "progress": job.progress,
        "outcome": job.outcome,
    }


def _embed_state(job: Job, row: Any, has_tower: bool) -> str:
    if job.cancelled is not None:
        return "cancelled"
    if job.chunks is None or row.chunks_accepted < job.chunks:
        return "receiving"
    if not row.open:
        return "finished_with_failures" if row.failed else "finished"
    if not has_tower:
        return "waiting_for_tower"
    return "running" if row.leased or row.succeeded else "queued"


def _other_state(job: Job, row: Any) -> str:
    if job.cancelled is not None:
        return "cancelled"
    if job.ended is not None:
        return "failed" if job.message else "finished"
    return "running" if row.leased or row.succeeded else "queued"


def cancel(session: Session, id: uuid.UUID) -> None:
    """Stop a job for good: what is done stays, what is open is dropped. An ended job is left as it is."""
    job = session.execute(select(Job).where(Job.id == id).with_for_update(key_share=True)).scalar()
    if job is None:
        raise UnknownJob(f"no job has the id {id}")
    if status(session, id)["state"] in ("finished", "finished_with_failures", "failed", "cancelled"):
        return
    job.cancelled = func.now()
    if job.kind != "embed":
        job.ended = func.now()
    batches.drop_open(session, id)


def to_announce(session: Session, *, limit: int = 100) -> list[uuid.UUID]:
    """Jobs that have ended and whose callers have not been told, oldest first."""
    query = select(Job.id).where(*_unannounced()).order_by(Job.created).limit(limit)
    return list(session.execute(query).scalars())


def hold_to_announce(session: Session, id: uuid.UUID) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The (callback, status) of a job that is to be announced, until commit nobody else's; None where it is not."""
    query = select(Job).where(Job.id == id, *_unannounced()).with_for_update(key_share=True, skip_locked=True)
    job = session.execute(query).scalar()
    if job is None or job.callback is None:
        return None
    job.announced = func.now()
    return job.callback, status(session, id)


def _unannounced() -> tuple[ColumnElement[bool], ...]:
    parts = select(Batch.id).where(Batch.job == Job.id)
    all_here = select(func.count(Batch.seq)).where(Batch.job == Job.id).scalar_subquery() == Job.chunks
    embedded = (Job.kind == "embed") & all_here & ~exists(parts.where(Batch.state.in_(["queued", "leased"])))
    ended = Job.ended.isnot(None) | Job.cancelled.isnot(None) | embedded
    return Job.callback.isnot(None), Job.announced.is_(None), ended


def start_training(
    session: Session, id: uuid.UUID, *, recipe: str, seed: int, callback: dict[str, Any] | None = None
) -> tuple[uuid.UUID, int]:
    """Open a training job with its one batch; (job, batch). Once: the same id again is the same training.

    Raises TrainingRunning while another is open.
    """
    known = session.execute(select(Batch.id).join(Job).where(Job.id == id, Job.kind == "train")).scalar()
    if known is not None:
        return id, known
    opened = session.execute(
        insert(Job)
        .values(id=id, kind="train", parameters={"recipe": recipe, "seed": seed}, chunks=1, callback=callback)
        .on_conflict_do_nothing(index_elements=["kind"], index_where=(Job.kind == "train") & Job.ended.is_(None))
        .returning(Job.id)
    ).scalar()
    if opened is None:
        running = session.execute(select(Job.id).where(Job.kind == "train", Job.ended.is_(None))).scalar_one()
        raise TrainingRunning(str(running))
    batch = session.execute(
        insert(Batch).values(job=id, seq=0, state="queued", digits=[], rung=func.now()).returning(Batch.id)
    ).scalar_one()
    return id, batch


def report_progress(session: Session, id: uuid.UUID, progress: dict[str, Any]) -> bool:
    """Note how far a training is; whether it was asked to stop."""
    parameters = session.execute(
        update(Job).where(Job.id == id).values(progress=progress).returning(Job.parameters)
    ).scalar_one()
    return bool(parameters.get("stop", False))


def ask_to_stop(session: Session, id: uuid.UUID) -> None:
    """Have a training end early with the best weights it has; read at its next report."""
    flag = sql_cast({"stop": True}, Job.parameters.type)
    session.execute(
        update(Job)
        .where(Job.id == id, Job.kind == "train", Job.ended.is_(None))
        .values(parameters=Job.parameters.op("||")(flag))
    )


def forget_stop(session: Session, id: uuid.UUID) -> None:
    """A training that is started over has learnt nothing yet: what was asked of its last worker does not hold."""
    session.execute(
        update(Job).where(Job.id == id).values(parameters=Job.parameters.op("-")(sql_cast(literal("stop"), Text)))
    )


def end(session: Session, id: uuid.UUID, *, outcome: dict[str, Any] | None = None, message: str | None = None) -> None:
    """Close a training or a fill: with its outcome, or with why it failed."""
    session.execute(
        update(Job).where(Job.id == id, Job.ended.is_(None)).values(ended=func.now(), outcome=outcome, message=message)
    )
