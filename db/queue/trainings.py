"""A training's steps in the ledger: start, progress, checkpoints, the request to stop, and its end.

One that is to promote its tower goes on when that is stored, until it is live or rejected. It must not know the model.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Text, delete, func, literal, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import learnt
from db.errors import LeaseLost, TrainingRunning
from db.queue.leases import Lease, held
from db.states import BatchState, JobKind, TowerStatus
from db.tables import Batch, Checkpoint, Job, Tower
from db.vectors.verdict import said_against


def start(
    session: Session,
    id: uuid.UUID,
    *,
    recipe: str,
    seed: int,
    data: str = "mnist",
    promotes: bool = False,
    started_by: str | None = None,
    callback: dict[str, Any] | None = None,
) -> tuple[uuid.UUID, int]:
    """Open a training job with its one batch; (job, batch). Once: the same id again is the same training.

    promotes: whether it goes on until its tower is live or rejected. Raises TrainingRunning while another is open.
    """
    known = session.execute(select(Batch.id).join(Job).where(Job.id == id, Job.kind == JobKind.TRAIN)).scalar()
    if known is not None:
        return id, known
    parameters = {"recipe": recipe, "seed": seed, "data": data, "promotes": promotes, "started_by": started_by}
    opened = session.execute(
        insert(Job)
        .values(id=id, kind=JobKind.TRAIN, parameters=parameters, chunks=1, callback=callback)
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


def under_way(session: Session) -> str | None:
    """The id of the training that is open."""
    job = session.execute(select(Job.id).where(Job.kind == JobKind.TRAIN, Job.ended_at.is_(None))).scalar()
    return None if job is None else str(job)


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
    """Clear the request to stop of a training that has no checkpoint: it starts over, and has no weights to keep."""
    if session.execute(select(Checkpoint.epoch).where(Checkpoint.job == id)).scalar():
        return
    session.execute(
        update(Job).where(Job.id == id).values(parameters=Job.parameters.op("-")(sql_cast(literal("stop"), Text)))
    )


def keep_material(
    session: Session,
    lease: Lease,
    *,
    digits: Sequence[int],
    labels: Sequence[int],
    left_out: Sequence[int],
    pairs: Sequence[int],
    same: Sequence[bool],
) -> None:
    """Fix what a training learns from, as `Checkpoint` has it, so that it goes on with the same; it starts over.

    Raises LeaseLost.
    """
    _require(session, lease)
    forget(session, lease.job)
    material = {"digits": digits, "labels": labels, "left_out": left_out, "pairs": pairs, "same": same}
    session.add(Checkpoint(job=lease.job, **material))


def material(session: Session, id: uuid.UUID) -> Checkpoint | None:
    """What a training learns from, once that is fixed; without what it goes on from."""
    return session.execute(select(Checkpoint).where(Checkpoint.job == id)).scalar()


def keep_state(session: Session, lease: Lease, epoch: int, state: bytes) -> None:
    """Keep what a training goes on from after `epoch` whole epochs. Raises LeaseLost.

    Deaths of its workers before are forgiven: it gets on.
    """
    _require(session, lease)
    session.execute(update(Checkpoint).where(Checkpoint.job == lease.job).values(epoch=epoch, state=state))
    session.execute(update(Batch).where(*held(lease)).values(attempt=1))


def state(session: Session, id: uuid.UUID) -> bytes | None:
    """What a training goes on from; None before its first checkpoint."""
    return session.execute(select(Checkpoint.state).where(Checkpoint.job == id)).scalar()


def forget(session: Session, id: uuid.UUID) -> None:
    """Delete what a training learns from and goes on from."""
    session.execute(delete(Checkpoint).where(Checkpoint.job == id))


def _require(session: Session, lease: Lease) -> None:
    if session.execute(select(Batch.id).where(*held(lease)).with_for_update(key_share=True)).scalar() is None:
        raise LeaseLost(lease.batch)


def made(session: Session, id: uuid.UUID, outcome: dict[str, Any]) -> None:
    """Note the tower that a training has made, and what it learnt from.

    It ends with that, unless it is to promote one that is a candidate.
    """
    parameters = session.execute(
        update(Job).where(Job.id == id, Job.ended_at.is_(None)).values(outcome=outcome).returning(Job.parameters)
    ).scalar()
    learnt.note(session, outcome["tower"], id)
    forget(session, id)
    if not (parameters or {}).get("promotes") or outcome["status"] != TowerStatus.CANDIDATE:
        end(session, id, outcome=outcome)


def end_promoted(session: Session, *, auto: bool = True) -> uuid.UUID | None:
    """End the training whose tower is a candidate no longer; which one. None where there is none.

    auto: whether a candidate that passed its judging goes live by itself; else the training ends with that.
    """
    waiting = select(Job).where(Job.kind == JobKind.TRAIN, Job.ended_at.is_(None), Job.outcome.isnot(None))
    job = session.execute(waiting.with_for_update(skip_locked=True)).scalar()
    if job is None or job.outcome is None:
        return None
    tower = session.execute(select(Tower).where(Tower.id == job.outcome["tower"])).scalar_one()
    if tower.status == TowerStatus.CANDIDATE and (auto or tower.verdict is None):
        return None
    why = f"tower {tower.id} was rejected: {said_against(tower.verdict) or 'no reason was recorded'}"
    end(
        session,
        job.id,
        outcome=job.outcome | {"status": tower.status},
        message=why if tower.status == TowerStatus.REJECTED else None,
    )
    return job.id


def end(session: Session, id: uuid.UUID, *, outcome: dict[str, Any] | None = None, message: str | None = None) -> None:
    """End a training or a backfill: with its outcome, or with why it failed."""
    forget(session, id)
    session.execute(
        update(Job)
        .where(Job.id == id, Job.ended_at.is_(None))
        .values(ended_at=func.now(), outcome=outcome, message=message)
    )
