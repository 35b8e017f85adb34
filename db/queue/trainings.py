"""A training's steps in the ledger: start, progress, the request to stop, end. It must not know the model."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Text, func, literal, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.errors import TrainingRunning
from db.states import BatchState, JobKind
from db.tables import Batch, Job


def start(
    session: Session, id: uuid.UUID, *, recipe: str, seed: int, callback: dict[str, Any] | None = None
) -> tuple[uuid.UUID, int]:
    """Open a training job with its one batch; (job, batch). Once: the same id again is the same training.

    Raises TrainingRunning while another is open.
    """
    known = session.execute(select(Batch.id).join(Job).where(Job.id == id, Job.kind == JobKind.TRAIN)).scalar()
    if known is not None:
        return id, known
    opened = session.execute(
        insert(Job)
        .values(id=id, kind=JobKind.TRAIN, parameters={"recipe": recipe, "seed": seed}, chunks=1, callback=callback)
        .on_conflict_do_nothing(
            index_elements=["kind"], index_where=(Job.kind == JobKind.TRAIN) & Job.ended_at.is_(None)
        )
        .returning(Job.id)
    ).scalar()
    if opened is None:
        running = session.execute(select(Job.id).where(Job.kind == JobKind.TRAIN, Job.ended_at.is_(None))).scalar_one()
        raise TrainingRunning(str(running))
    batch = session.execute(
        insert(Batch)
        .values(job=id, seq=0, state=BatchState.QUEUED, digits=[], published_at=func.now())
        .returning(Batch.id)
    ).scalar_one()
    return id, batch


def report_progress(session: Session, id: uuid.UUID, progress: dict[str, Any]) -> bool:
    """Store the progress of a training; whether it was asked to stop."""
    parameters = session.execute(
        update(Job).where(Job.id == id).values(progress=progress).returning(Job.parameters)
    ).scalar_one()
    return bool(parameters.get("stop", False))


def ask_to_stop(session: Session, id: uuid.UUID) -> None:
    """Ask a training to end early and keep its best weights; read at its next progress report."""
    flag = sql_cast({"stop": True}, Job.parameters.type)
    session.execute(
        update(Job)
        .where(Job.id == id, Job.kind == JobKind.TRAIN, Job.ended_at.is_(None))
        .values(parameters=Job.parameters.op("||")(flag))
    )


def forget_stop(session: Session, id: uuid.UUID) -> None:
    """Clear the request to stop: a training that starts over has no weights to keep yet."""
    session.execute(
        update(Job).where(Job.id == id).values(parameters=Job.parameters.op("-")(sql_cast(literal("stop"), Text)))
    )


def end(session: Session, id: uuid.UUID, *, outcome: dict[str, Any] | None = None, message: str | None = None) -> None:
    """End a training or a backfill: with its outcome, or with why it failed."""
    session.execute(
        update(Job)
        .where(Job.id == id, Job.ended_at.is_(None))
        .values(ended_at=func.now(), outcome=outcome, message=message)
    )
