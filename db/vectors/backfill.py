"""Backfill: which stored digits lack a vector under a tower, and the jobs that embed them. It must not know a model."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from db import locks
from db.states import OPEN, BatchState, JobKind, TowerStatus
from db.tables import Batch, Digit, Embedding, Job, Tower

RATED = 60  # seconds that a rate is measured over
MEASURED = 256  # digits of a batch, at least, that tells how long one takes
LATELY = 20_000  # batches among which it is looked for
BACKFILL_BATCH = 512  # digits: new ones wait for no more


def queue_missing(session: Session, tower: int) -> int:
    """Queue the digits that have a vector under the live tower and none under this one; how many they are."""
    return _queue(session, tower, _missing(session, tower))


def count_missing(session: Session, tower: int) -> int:
    """How many digits have a vector under the live tower and none under this one."""
    return session.execute(select(func.count()).select_from(_missing(session, tower).subquery())).scalar_one()


def _missing(session: Session, tower: int) -> Any:
    live = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    # Not a subquery: with the two ids at hand the planner reads two partitions and no others.
    return select(Embedding.digit).where(Embedding.tower == live, ~embedded_under(tower, Embedding.digit))


def queue_due(session: Session) -> int:
    """Queue the digits that have no vector under the live tower and are in no open batch; how many they are.

    For instance after a restore, or where a tower's vectors were lost: the stored pixels are enough to compute them.
    """
    locks.hold_towers(session)
    tower = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    if tower is None:
        return 0
    waiting = (
        select(func.unnest(Batch.digits))
        .join(Job, Job.id == Batch.job)
        # A digit that crashed its workers would do so again; a dead batch of a backfill counts for its tower alone.
        .where(or_(Batch.state.in_(OPEN), and_(Batch.state == BatchState.DEAD, _concerns(tower))))
    )
    due = select(Digit.id).where(~embedded_under(tower, Digit.id), Digit.id.not_in(waiting))
    return _queue(session, tower, due)


def end_finished(session: Session) -> None:
    """End the backfills that have no open batch left."""
    still_open = exists(select(Batch.id).where(Batch.job == Job.id, Batch.state.in_(OPEN)))
    session.execute(
        update(Job).where(Job.kind == JobKind.BACKFILL, Job.ended_at.is_(None), ~still_open).values(ended_at=func.now())
    )


def end_jobs(session: Session, tower: int, why: str) -> None:
    """End the backfills of a tower and cancel their open batches: they would never be claimed again."""
    jobs = session.execute(select(Job.id).where(Job.tower == tower).with_for_update()).scalars().all()
    session.execute(
        update(Job).where(Job.id.in_(jobs), Job.ended_at.is_(None)).values(message=why, ended_at=func.now())
    )
    session.execute(  # also of a backfill that has ended: one ends as soon as a batch of it is dead
        update(Batch)
        .where(Batch.job.in_(jobs), Batch.state.in_(OPEN))
        .values(
            state=BatchState.CANCELLED,
            token=None,
            lease_until=None,
            finished_at=func.now(),
            dropped=Batch.size,
        )
    )


def given_up(session: Session, tower: int) -> int:
    """How many stored digits have no vector under a tower because their batch is dead."""
    dead = select(func.unnest(Batch.digits)).join(Job).where(Batch.state == BatchState.DEAD, _concerns(tower))
    query = select(func.count()).where(Digit.id.in_(dead), ~embedded_under(tower, Digit.id))
    return session.execute(query).scalar_one()


def embedded_under(tower: Any, digit: Any) -> ColumnElement[bool]:
    there = aliased(Embedding)
    return exists(select(there.digit).where(there.tower == tower, there.digit == digit))


def _concerns(tower: int) -> ColumnElement[bool]:
    """Whether a dead batch of this job counts under a tower; one of a backfill counts under that backfill's alone."""
    return or_(Job.kind == JobKind.EMBED, Job.tower == tower)


def _queue(session: Session, tower: int, digits: Any) -> int:
    """One backfill job with batches of BACKFILL_BATCH digits, by id; how many digits."""
    ids = list(session.execute(digits.order_by(text("1"))).scalars())
    if not ids:
        return 0
    parts = [ids[start : start + BACKFILL_BATCH] for start in range(0, len(ids), BACKFILL_BATCH)]
    job = uuid.uuid4()
    session.execute(
        insert(Job).values(id=job, kind=JobKind.BACKFILL, tower=tower, total=len(ids), chunks=len(parts), parameters={})
    )
    session.execute(
        insert(Batch),
        [
            {"job": job, "seq": seq, "state": BatchState.QUEUED, "digits": part, "items": len(part)}
            for seq, part in enumerate(parts)
        ],
    )
    return len(ids)


class Progress(NamedTuple):
    """A backfill that goes on. done: digits that have their vector, were replaced meanwhile, or failed. rate: digits a
    second in the last minute; None before the first batch. remaining: seconds at that rate."""

    job: str
    tower: int
    total: int
    done: int
    rate: float | None
    remaining: float | None


def progress(session: Session) -> list[Progress]:
    """The backfills that go on, the oldest first."""
    settled = Batch.embedded + Batch.dropped + Batch.failed
    recent = func.sum(settled).filter(Batch.finished_at > func.now() - text(f"interval '{RATED} seconds'"))
    age = func.least(RATED, func.extract("epoch", func.now() - Job.created_at))
    query = (
        select(Job.id, Job.tower, Job.total, func.sum(settled).label("done"), recent.label("recent"), age.label("age"))
        .join(Batch, Batch.job == Job.id)
        .where(Job.kind == JobKind.BACKFILL, Job.ended_at.is_(None))
        .group_by(Job.id)
        .order_by(Job.created_at)
    )
    return [_progress(row) for row in session.execute(query)]


def _progress(row: Any) -> Progress:
    rate = float(row.recent) / float(row.age) if row.recent and row.age else None
    remaining = None if rate is None else (row.total - row.done) / rate
    return Progress(str(row.id), row.tower, row.total, int(row.done), rate, remaining)


class Estimate(NamedTuple):
    """What a backfill of all digits under a new tower would take. digits: that have a vector under the live tower.
    seconds: None where no work was measured; measured_on: the kind of the job whose batches were. bytes: on disk."""

    digits: int
    seconds: float | None
    measured_on: JobKind | None
    bytes: int


def estimate(session: Session) -> Estimate:
    """For a tower that is to come, by what the live tower takes and the last batches took."""
    live = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    digits = session.execute(select(func.count()).where(Embedding.tower == live)).scalar_one()
    tree = "SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree(to_regclass(:name))"
    taken = int(session.execute(text(tree), {"name": f"embeddings_{live}"}).scalar_one())
    for kind in (JobKind.BACKFILL, JobKind.EMBED):
        each = _seconds_each(session, kind)
        if each is not None:
            return Estimate(digits, each * digits, kind, taken)
    return Estimate(digits, None, None, taken)


def _seconds_each(session: Session, kind: JobKind) -> float | None:
    """Seconds for each digit of the last job of a kind with several batches that were not small, from the end of its
    first one to that of its last; None where there was none lately."""
    newest = select(func.max(Batch.id)).scalar_subquery()
    span = func.extract("epoch", func.max(Batch.finished_at) - func.min(Batch.finished_at))
    digits = func.sum(Batch.embedded) * (1 - 1.0 / func.count())  # but for the first, whose beginning is not known
    last = (
        select(span / digits)
        .join(Job, Job.id == Batch.job)
        .where(Job.kind == kind, Batch.state == BatchState.DONE, Batch.embedded >= MEASURED, Batch.id > newest - LATELY)
        .group_by(Batch.job)
        .having(func.count() > 1, span > 0)
        .order_by(func.max(Batch.finished_at).desc())
    )
    found = session.execute(last.limit(1)).scalar()
    return None if found is None else float(found)
