"""The state and the counts of jobs. Counts are sums over batches: no row is hot, and none can drift.

It must not change a row.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Interval, Select, and_, case, func, select, true, union
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from db.errors import UnknownJob
from db.queue import inbox, pauses, stages
from db.queue.pauses import Pause
from db.states import EMBEDDED_UNDER, FINAL, OPEN, BatchState, JobKind, JobState
from db.tables import Batch, Digit, Job, Tower

LOOK = 10_000  # jobs that one question looks at, at most


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """Where a job stands at one moment. Counts are of items; `doubtful` of the stored digits that it brought.

    created_at: ISO 8601. seconds: from then to its end, or to now. stage: of a training that is to promote its tower,
    as `stages.of` says it. paused: what holds its batches back: its own pause, or that of their lane.
    """

    id: str
    kind: JobKind
    collection: str | None
    state: JobState
    total: int | None
    accepted: int
    succeeded: int
    unchanged: int
    failed: int
    cancelled: int
    created_at: str
    seconds: float
    message: str | None
    progress: dict[str, Any] | None
    outcome: dict[str, Any] | None
    doubtful: int
    stage: dict[str, Any] | None = None
    paused: Pause | None = None


def status(session: Session, id: uuid.UUID) -> JobStatus:
    """Where one job stands; one whose pictures wait in the inbox is being received. Raises UnknownJob."""
    rows = _statuses(session, Job.id == id, limit=1)
    if rows:
        return rows[0]
    if (left_at := inbox.left_at(session, id)) is not None:
        counts = dict.fromkeys(("accepted", "succeeded", "unchanged", "failed", "cancelled", "doubtful"), 0)
        nothing = dict.fromkeys(("collection", "total", "message", "progress", "outcome"))
        about = {"id": str(id), "kind": JobKind.EMBED, "state": JobState.RECEIVING, "created_at": left_at}
        return JobStatus(seconds=0.0, **about, **counts, **nothing)  # type: ignore[arg-type]  # by name
    raise UnknownJob(f"no job has the id {id}")


def latest(session: Session, *, limit: int) -> list[JobStatus]:
    """The newest jobs, newest first."""
    return _statuses(session, Job.created_at.isnot(None), limit=limit)


def among(session: Session, ids: Select[uuid.UUID], *, limit: int) -> list[JobStatus]:
    """The newest of the jobs whose ids a query gives, newest first."""
    return _statuses(session, Job.id.in_(ids), limit=limit)


def unfinished(
    session: Session,
    *,
    collection: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    since: float | None = None,
    limit: int,
) -> list[JobStatus]:
    """The newest jobs that have not ended, newest first: of a collection, of a kind, in a state, opened within so many
    seconds."""
    which: list[ColumnElement[bool]] = [Job.id.in_(under_way()), Job.pruned_at.is_(None)]
    if collection is not None:
        which.append(Job.collection == collection)
    if kind is not None:
        which.append(Job.kind == kind)
    if since is not None:
        which.append(Job.created_at > func.now() - sql_cast(f"{since} seconds", Interval))
    found = _statuses(session, and_(*which), limit=LOOK)
    return [job for job in found if job.state not in FINAL and state in (None, job.state)][:limit]


def under_way(most: int | None = None) -> Select[uuid.UUID]:
    """The ids of jobs that have not ended, or not long ago, each found by an index; of each sort `most` at most."""
    waiting = select(Batch.job).where(Batch.state.in_(OPEN)).distinct().limit(most)
    receiving = select(Job.id).where(Job.kind == JobKind.EMBED, Job.receiving).limit(most)
    training = select(Job.id).where(Job.kind == JobKind.TRAIN, Job.ended_at.is_(None))
    chosen = union(*(select(part.subquery().c[0]) for part in (waiting, receiving, training))).subquery()
    return select(chosen.c[0])


def _statuses(session: Session, which: ColumnElement[bool], *, limit: int) -> list[JobStatus]:
    chosen = select(Job.id).where(which, Job.pruned_at.is_(None)).order_by(Job.created_at.desc()).limit(limit)
    is_open = Batch.state.in_(OPEN)

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
            select(func.count())
            .where(Digit.job == Job.id, Digit.doubtful == true())  # `IS TRUE` would not find the index
            .correlate(Job)
            .scalar_subquery()
            .label("doubtful"),
            total(case((is_open, 1), else_=0)).label("open"),
            total(case((Batch.state == BatchState.LEASED, 1), else_=0)).label("leased"),
            func.extract(
                "epoch",
                case(
                    (Job.ended_at.isnot(None), Job.ended_at),
                    (Job.cancelled_at.isnot(None), Job.cancelled_at),
                    (
                        func.bool_or(is_open) | (Job.chunks.is_(None) & Job.abandoned_at.is_(None)),
                        func.clock_timestamp(),
                    ),
                    else_=func.greatest(Job.created_at, Job.abandoned_at, func.max(Batch.finished_at)),
                )
                - Job.created_at,
            ).label("seconds"),
        )
        .outerjoin(Batch, Batch.job == Job.id)
        .where(Job.id.in_(chosen))
        .group_by(Job.id)
        .order_by(Job.created_at.desc())
    )
    towers = session.execute(select(func.count()).where(Tower.status.in_(EMBEDDED_UNDER))).scalar_one()
    lanes = pauses.of_lanes(session)
    return [_status(session, row, lanes, has_tower=bool(towers)) for row in session.execute(query).all()]


def _status(session: Session, row: Any, lanes: dict[str, Pause], *, has_tower: bool) -> JobStatus:
    job: Job = row.Job
    state = _embed_state(job, row, has_tower) if job.kind == JobKind.EMBED else _other_state(job, row)
    return JobStatus(
        id=str(job.id),
        kind=job.kind,
        collection=job.collection,
        state=state,
        total=job.total,
        accepted=row.accepted,
        succeeded=row.succeeded,
        unchanged=row.unchanged,
        failed=row.failed,
        cancelled=row.dropped,
        created_at=job.created_at.isoformat(),
        seconds=float(row.seconds),
        message=job.message or _uncalled(job),
        progress=job.progress,
        outcome=job.outcome,
        doubtful=row.doubtful,
        stage=stages.of(session, job),
        paused=None if state in FINAL else pauses.of_job(job, lanes),
    )


def _uncalled(job: Job) -> str | None:
    """Why a job's callback was not called, and whether it is tried again."""
    if job.callback is None or job.callback_message is None:
        return None
    then = "is tried again" if job.callback_given_up_at is None else "was given up"
    return (
        f"its callback {job.callback['task']} on {job.callback['queue']} could not be called, {job.callback_errors} "
        f"times by now, and {then}: {job.callback_message}"
    )


def _embed_state(job: Job, row: Any, has_tower: bool) -> JobState:
    if job.cancelled_at is not None:
        return JobState.CANCELLED
    if job.abandoned_at is None and (job.chunks is None or row.chunks_accepted < job.chunks):
        return JobState.RECEIVING
    if not row.open and job.abandoned_at is not None:
        return JobState.ABANDONED
    if not row.open:
        return JobState.FINISHED_WITH_FAILURES if row.failed else JobState.FINISHED
    if not has_tower:
        return JobState.WAITING_FOR_TOWER
    return JobState.RUNNING if row.leased or row.succeeded else JobState.QUEUED


def _other_state(job: Job, row: Any) -> JobState:
    if job.cancelled_at is not None:
        return JobState.CANCELLED
    if job.ended_at is not None:
        return JobState.FAILED if job.message else JobState.FINISHED
    return JobState.RUNNING if row.leased or row.succeeded or job.outcome is not None else JobState.QUEUED
