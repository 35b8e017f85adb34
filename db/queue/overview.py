"""What waits, what is worked on and how fast, in few and cheap queries: it is asked again and again while one watches.

It must not change a row.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Select, and_, exists, func, or_, select, union
from sqlalchemy.orm import Session

from db.queue import intake, jobs, pauses
from db.queue.jobs import JobStatus
from db.queue.pauses import Pause
from db.states import OPEN, BatchState, JobKind, TowerStatus
from db.tables import Batch, Inbox, Job, Tower
from db.vectors.towers import is_maintained

RATED = 60  # seconds over which rates are measured
UNDER_WAY = 50  # jobs at most


@dataclass(frozen=True)
class Work:
    """The batches of a kind of job: how many wait and are worked on, digits embedded a second, and since when the
    oldest waits that waits for nothing but a worker, in seconds."""

    queued: int = 0
    running: int = 0
    rate: float = 0.0
    oldest: float | None = None


@dataclass(frozen=True)
class Held:
    """A batch that is worked on, and by which process."""

    worker: str
    batch: int
    job: uuid.UUID
    kind: JobKind


@dataclass(frozen=True)
class Standing:
    """What goes on. at: ISO 8601. live_tower: its fingerprint. backlog: digits of callers. left: chunks in the inbox,
    and since when the oldest waits, in seconds."""

    at: str
    live_tower: str | None
    backlog: int
    work: dict[JobKind, Work]
    left: int
    oldest_left: float | None
    held: list[Held]
    paused: dict[str, Pause]
    jobs: list[JobStatus]


def standing(session: Session, *, newest: int) -> Standing:
    """newest: how many jobs to list beside those under way."""
    left, oldest_left = session.execute(
        select(func.count(), func.extract("epoch", func.now() - func.min(Inbox.created_at))).where(
            Inbox.refused.is_(None)
        )
    ).one()
    return Standing(
        at=session.execute(select(func.now())).scalar_one().isoformat(),
        live_tower=session.execute(select(Tower.fingerprint).where(Tower.status == TowerStatus.LIVE)).scalar(),
        backlog=intake.backlog(session),
        work=_work(session),
        left=left,
        oldest_left=None if oldest_left is None else float(oldest_left),
        held=_held(session),
        paused={lane: pauses.counted(session, pause) for lane, pause in pauses.of_lanes(session).items()},
        jobs=jobs.among(session, _listed(newest), limit=newest + UNDER_WAY),
    )


def _work(session: Session) -> dict[JobKind, Work]:
    has_tower = exists(select(Tower.id).where(is_maintained(), or_(Job.tower.is_(None), Job.tower == Tower.id)))
    ready = and_(
        Batch.state == BatchState.QUEUED,
        or_(Batch.retry_at.is_(None), Batch.retry_at <= func.now()),
        or_(Job.kind == JobKind.TRAIN, has_tower),
    )
    since = func.min(func.coalesce(Batch.retry_at, Batch.created_at)).filter(ready)
    open_batches = (
        select(
            Job.kind,
            func.count().filter(Batch.state == BatchState.QUEUED).label("queued"),
            func.count().filter(Batch.state == BatchState.LEASED, Batch.lease_until > func.now()).label("running"),
            func.extract("epoch", func.now() - since).label("oldest"),
        )
        .join(Job, Job.id == Batch.job)
        .where(Batch.state.in_(OPEN))
        .group_by(Job.kind)
    )
    rates = _rates(session)
    found = {kind: Work(rate=rates.get(kind, 0.0)) for kind in JobKind}
    for row in session.execute(open_batches):
        oldest = None if row.oldest is None else float(row.oldest)
        found[row.kind] = Work(row.queued, row.running, rates.get(row.kind, 0.0), oldest)
    return found


def _rates(session: Session) -> dict[JobKind, float]:
    query = (
        select(Job.kind, func.sum(Batch.embedded).label("embedded"))
        .join(Job, Job.id == Batch.job)
        .where(
            Batch.state == BatchState.DONE, Batch.finished_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, RATED)
        )
        .group_by(Job.kind)
    )
    return {row.kind: row.embedded / RATED for row in session.execute(query)}


def _held(session: Session) -> list[Held]:
    query = (
        select(Batch.worker, Batch.id, Job.id.label("job"), Job.kind)
        .join(Job, Job.id == Batch.job)
        .where(Batch.state == BatchState.LEASED, Batch.lease_until > func.now())
        .order_by(Batch.id)
    )
    return [Held(row.worker, row.id, row.job, row.kind) for row in session.execute(query)]


def _listed(newest: int) -> Select[uuid.UUID]:
    """The ids of the newest jobs, and of those under way, each found by an index of its own."""
    latest = select(Job.id).where(Job.pruned_at.is_(None)).order_by(Job.created_at.desc()).limit(newest)
    chosen = union(select(latest.subquery().c[0]), jobs.under_way(UNDER_WAY)).subquery()
    return select(chosen.c[0])
