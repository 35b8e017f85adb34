"""What is kept of jobs, and how long: ended ones go with their batches and failures, in small transactions.

It must not delete what is open, what a callback is due for, or what keeps a digit that crashes workers from being tried
again; and it must not know the schedule, which is that of `tasks.prune`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Interval,
    and_,
    cast,
    delete,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from db.states import EMBEDDED_UNDER, OPEN, BatchState, JobKind, TowerStatus
from db.tables import Batch, Digit, Failure, Job, Tower
from db.vectors.backfill import embedded_under

LOOK = 1000  # jobs that one transaction looks at, at most
HOUR = 1 / 24  # days that an ended job is kept however many there are: its caller may be about to ask for it


_FAILURE = (Failure.job, Failure.key, Failure.reason)  # its key


@dataclass(frozen=True, kw_only=True)
class Keep:
    """How many days jobs are kept after their end.

    jobs: all. dead: those with a dead batch. callbacks: those whose callback could not be called. pictures: how long a
    failure keeps what was sent.
    """

    jobs: float = 30
    dead: float = 90
    callbacks: float = 90
    pictures: float = 30


class Place(NamedTuple):
    """How far a pass over the jobs has come, oldest first."""

    created_at: datetime
    id: uuid.UUID


START = Place(datetime(1, 1, 2, tzinfo=UTC), uuid.UUID(int=0))


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted. uncalled: jobs of these whose callback was never called."""

    jobs: int = 0
    batches: int = 0
    failures: int = 0
    uncalled: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def surplus(session: Session, most: int) -> datetime | None:
    """When the newest of those jobs was created that are more than `most`; None where there are not as many.

    To be cheap where it is far from that, it asks the statistics first: a few jobs too many may pass it by.
    """
    guess = session.execute(text("SELECT reltuples FROM pg_class WHERE oid = 'jobs'::regclass")).scalar_one()
    if 0 <= guess < most * 0.9:  # -1 where nothing has been counted yet
        return None
    return session.execute(select(Job.created_at).order_by(Job.created_at.desc()).offset(most).limit(1)).scalar()


def prune_jobs(
    session: Session, keep: Keep, *, after: Place = START, rows: int, surplus: datetime | None = None
) -> tuple[Pruned, Place | None]:
    """Delete the oldest jobs whose time is over; what went, and the place to go on from, None at the end of a pass.

    rows: of batches, and of failures, that one transaction deletes at most. Jobs with more are marked as pruned and are
    unknown from then on, because their counts, sums over batches, would be wrong. surplus: jobs created until then go
    an hour after their end.
    """
    looked = _look(session, keep, after, rows, surplus)
    if not looked:
        return Pruned(), None
    ids = [place.id for place in looked]
    begun = _begun(session, ids)
    candidates = begun or _over(session, keep, ids, surplus)
    # An array, not an IN of as many parameters: these are many and change with each transaction.
    held = select(Job.id).where(Job.id == func.any(candidates)).order_by(Job.id).with_for_update(skip_locked=True)
    jobs = list(session.execute(held).scalars())
    if not begun:  # judged again when they are locked: a dead batch of one may have been requeued
        jobs = _over(session, keep, jobs, surplus)
    if not jobs:
        return Pruned(), looked[-1]
    failures = _delete_failures(session, jobs, rows)
    batches = 0 if failures == rows else _delete_batches(session, jobs, rows)
    if rows in (failures, batches):  # there may be more
        unknown = update(Job).where(Job.id == func.any(jobs), Job.pruned_at.is_(None))
        session.execute(unknown.values(pruned_at=func.now()))
        return Pruned(batches=batches, failures=failures), after
    undelivered = select(func.count()).where(Job.id == func.any(jobs), Job.callback.isnot(None))
    uncalled = session.execute(undelivered.where(Job.called_back_at.is_(None))).scalar_one()
    session.execute(delete(Job).where(Job.id == func.any(jobs)))
    gone = Pruned(jobs=len(jobs), batches=batches, failures=failures, uncalled=uncalled)
    return gone, after if begun else looked[-1]


def clear(session: Session, job: uuid.UUID) -> None:
    """Delete at once what is left of a job that is being pruned; any other job is left alone."""
    pruned = select(Job.id).where(Job.id == job, Job.pruned_at.isnot(None)).with_for_update()
    if session.execute(pruned).scalar() is None:
        return
    session.execute(delete(Failure).where(Failure.job == job))
    session.execute(delete(Batch).where(Batch.job == job))
    session.execute(delete(Job).where(Job.id == job))


def prune_pictures(session: Session, keep: Keep, *, rows: int) -> int:
    """Delete the oldest pictures that failures have kept for their time; how many."""
    old = (
        select(*_FAILURE)
        .where(Failure.picture.isnot(None), Failure.created_at < func.now() - days(keep.pictures))
        .order_by(Failure.created_at)
        .limit(rows)
        .with_for_update(skip_locked=True)
    )
    found = [tuple(row) for row in session.execute(old)]
    session.execute(update(Failure).where(tuple_(*_FAILURE).in_(found)).values(picture=None))
    return len(found)


def overdue(session: Session, keep: Keep, *, by: float) -> int:
    """How many jobs should have been deleted `by` days ago; of the oldest, at most LOOK are looked at."""
    then = replace(keep, jobs=keep.jobs + by, dead=keep.dead + by, callbacks=keep.callbacks + by)
    looked = _look(session, then, START, rows=100 * LOOK, surplus=None)
    return len(_over(session, then, [place.id for place in looked], None))


def days(count: float) -> ColumnElement[Any]:
    return cast(f"{count} days", Interval)


def _look(session: Session, keep: Keep, after: Place, rows: int, surplus: datetime | None) -> list[Place]:
    """The next jobs that are old enough, whatever their state: as many as have fewer than about `rows` batches."""
    old = Job.created_at < func.now() - days(keep.jobs)
    if surplus is not None:
        old |= Job.created_at <= surplus
    next_ones = (
        select(Job.created_at, Job.id, func.coalesce(Job.chunks, 1).label("chunks"))
        .where(tuple_(Job.created_at, Job.id) > tuple_(literal(after.created_at), literal(after.id)), old)
        .order_by(Job.created_at, Job.id)
        .limit(LOOK)
        .subquery()
    )
    order = (next_ones.c.created_at, next_ones.c.id)
    upto = func.sum(next_ones.c.chunks).over(order_by=order)
    summed = select(*order, next_ones.c.chunks, upto.label("upto")).subquery()
    few = or_(summed.c.upto < rows, summed.c.upto == summed.c.chunks)  # or the first alone
    query = select(summed.c.created_at, summed.c.id).where(few)
    return [Place(*row) for row in session.execute(query.order_by(summed.c.created_at, summed.c.id))]


def _begun(session: Session, jobs: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """The first of these jobs that was marked as pruned; one alone, so that an index has its rows in order."""
    query = select(Job.id).where(Job.id == func.any(list(jobs)), Job.pruned_at.isnot(None))
    return list(session.execute(query.order_by(Job.created_at, Job.id).limit(1)).scalars())


def _over(session: Session, keep: Keep, jobs: Sequence[uuid.UUID], surplus: datetime | None) -> list[uuid.UUID]:
    """Those of these jobs that have ended and whose time is over."""
    if not jobs:
        return []
    found = (
        select(
            func.count(Batch.seq).label("chunks"),
            func.coalesce(func.bool_or(Batch.state.in_(OPEN)), false()).label("open"),
            func.coalesce(func.bool_or(Batch.state == BatchState.DEAD), false()).label("dead"),
            func.max(Batch.finished_at).label("finished_at"),
        )
        .where(Batch.job == Job.id)
        .lateral("found")
    )
    # NULL is passed by
    end = func.greatest(Job.created_at, Job.ended_at, Job.cancelled_at, Job.abandoned_at, found.c.finished_at)
    all_here = and_(Job.kind == JobKind.EMBED, found.c.chunks >= Job.chunks)
    said = or_(*(at.isnot(None) for at in (Job.ended_at, Job.cancelled_at, Job.abandoned_at)))
    ended = and_(~found.c.open, or_(said, all_here))
    old = end < func.now() - days(keep.jobs)
    if surplus is not None:
        old |= and_(Job.created_at <= surplus, end < func.now() - days(HOUR))
    called = or_(Job.callback.is_(None), Job.called_back_at.isnot(None), end < func.now() - days(keep.callbacks))
    buried = or_(~found.c.dead, and_(end < func.now() - days(keep.dead), ~_guards_digits()))
    query = (
        select(Job.id)
        .join(found, true())
        .where(Job.id == func.any(list(jobs)), ended, old, called, buried, ~_decides_on_candidate())
        .order_by(Job.created_at, Job.id)
    )
    return list(session.execute(query).scalars())


def _guards_digits() -> ColumnElement[bool]:
    """Whether a dead batch of a job holds stored digits that lack a vector: without it, backfill would try them again.

    `db.vectors.backfill.queue_due` asks the same.
    """
    dead = (
        select(func.unnest(Batch.digits).label("digit"))
        .where(Batch.job == Job.id, Batch.state == BatchState.DEAD)
        .correlate(Job)
        .lateral("dead")
    )
    lacking = and_(
        Tower.status.in_(EMBEDDED_UNDER),
        or_(Job.kind == JobKind.EMBED, Job.tower == Tower.id),
        ~embedded_under(Tower.id, Digit.id),
    )
    return exists(select(Digit.id).select_from(dead).join(Digit, Digit.id == dead.c.digit).join(Tower, lacking))


def _decides_on_candidate() -> ColumnElement[bool]:
    """Whether it is a backfill of the candidate, or judged it: whether that failed decides on the promotion."""
    candidates = select(Tower.id).where(Tower.status == TowerStatus.CANDIDATE)
    return and_(Job.kind.in_((JobKind.BACKFILL, JobKind.JUDGE)), Job.tower.in_(candidates))


def _delete_failures(session: Session, jobs: Sequence[uuid.UUID], rows: int) -> int:
    """Delete at most `rows` failures of these jobs; how many."""
    first = select(*_FAILURE).where(_of(Failure.job, jobs)).order_by(*_FAILURE).limit(rows)
    gone: Any = session.execute(delete(Failure).where(tuple_(*_FAILURE).in_(first)))
    return int(gone.rowcount)


def _delete_batches(session: Session, jobs: Sequence[uuid.UUID], rows: int) -> int:
    """Delete at most `rows` batches of these jobs; how many. The parts of a split one, without `seq`, go before it.

    Not by id alone: to find the last of the oldest jobs, PostgreSQL might read all newer batches.
    """
    order = (Batch.job.desc(), Batch.seq.desc().nulls_first(), Batch.id.desc())
    last = select(Batch.id).where(_of(Batch.job, jobs)).order_by(*order).limit(rows)
    gone: Any = session.execute(delete(Batch).where(Batch.id.in_(last)))
    return int(gone.rowcount)


def _of(column: Any, jobs: Sequence[uuid.UUID]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = column == (jobs[0] if len(jobs) == 1 else func.any(list(jobs)))
    return found
