"""Requests about jobs, on the lane `control`: status, failures, cancel, dead batches. Quick: no task here may wait."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from db import digits
from db.queue import actions, dead, failures, intake, jobs, pauses
from db.queue.cancel import cancel_job
from db.tables import Failure
from tasks.announce import announce_job
from tasks.answering import answering
from twinvec_client.contract.messages import (
    Cancel,
    DoubtfulOf,
    FailureOf,
    FailuresOf,
    ListDead,
    ListJobs,
    Receipts,
    Requeue,
    StatusOf,
)
from worker.app import app
from worker.notices import notify
from worker.outbox import publish
from worker.runtime import Runtime, runtime

PAGE = 1000


@app.task(name=StatusOf.task, ignore_result=False)
@answering
def status(**payload: Any) -> dict[str, Any]:
    request = StatusOf.read(payload)
    return asdict(runtime().transact(jobs.status, UUID(request.job)))


@app.task(name=ListJobs.task, ignore_result=False)
@answering
def latest(**payload: Any) -> dict[str, Any]:
    limit = min(ListJobs.read(payload).limit, PAGE)
    return {"jobs": [asdict(job) for job in runtime().transact(jobs.latest, limit=limit)]}


@app.task(name=Receipts.task, ignore_result=False)
@answering
def receipts(**payload: Any) -> dict[str, Any]:
    return receipts_of(Receipts.read(payload), runtime())


def receipts_of(request: Receipts, runtime: Runtime) -> dict[str, Any]:
    """Which chunks are accepted, and how large the backlog is and may be."""
    found = runtime.transact(intake.received, UUID(request.job), after=request.after)
    paused = runtime.transact(pauses.of_lane, "intake") if found.is_paused else None
    return {
        "accepted": found.chunks,
        "first": found.first,
        "backlog": found.backlog,
        "backlog_limit": runtime.settings.backlog,
        "job_limit": runtime.settings.job_pictures,
        "paused": None if paused is None else asdict(paused),
    }


@app.task(name=FailuresOf.task, ignore_result=False)
@answering
def failed(**payload: Any) -> dict[str, Any]:
    return failures_of(FailuresOf.read(payload), runtime())


def failures_of(request: FailuresOf, runtime: Runtime) -> dict[str, Any]:
    """One page of a job's failures. Raises UnknownJob."""
    job, limit = UUID(request.job), min(request.limit, PAGE)

    def page(session: Any) -> list[dict[str, Any]]:
        jobs.status(session, job)
        rows = failures.page(session, job, after=request.after, limit=limit, pictures=request.pictures)
        return [_failure(row, pictures=request.pictures) for row in rows]

    return {"failures": runtime.transact(page)}


@app.task(name=FailureOf.task, ignore_result=False)
@answering
def failed_key(**payload: Any) -> dict[str, Any]:
    return failure_of(FailureOf.read(payload), runtime())


def failure_of(request: FailureOf, runtime: Runtime) -> dict[str, Any]:
    """The failures of one key, with what was sent. Raises UnknownJob, UnknownKey."""
    job = UUID(request.job)

    def found(session: Any) -> list[dict[str, Any]]:
        jobs.status(session, job)
        return [_failure(row, pictures=True) for row in failures.of_key(session, job, request.key)]

    return {"failures": runtime.transact(found)}


def _failure(row: Failure, *, pictures: bool) -> dict[str, Any]:
    """As it is sent."""
    return {
        "key": row.key,
        "reason": row.reason,
        "message": row.message,
        "attempts": row.attempts,
        "picture": row.picture if pictures else None,
        "is_glyph": row.is_glyph,
        "label": row.label,
        "attributes": None if row.attributes is None else json.dumps(row.attributes),
    }


@app.task(name=DoubtfulOf.task, ignore_result=False)
@answering
def doubtful(**payload: Any) -> dict[str, Any]:
    return doubtful_of(DoubtfulOf.read(payload), runtime())


def doubtful_of(request: DoubtfulOf, runtime: Runtime) -> dict[str, Any]:
    """One page of the digits that a job stored and that look like none. Raises UnknownJob."""
    job, limit = UUID(request.job), min(request.limit, PAGE)

    def page(session: Any) -> list[dict[str, Any]]:
        jobs.status(session, job)
        return [
            {
                "key": digit.key,
                "collection": digit.collection,
                "label": digit.label,
                "attributes": None if digit.attributes is None else json.dumps(digit.attributes),
                "picture": digit.pixels if request.pictures else None,
            }
            for digit in digits.doubtful_of(session, job, after=request.after, limit=limit)
        ]

    return {"digits": runtime.transact(page)}


@app.task(name=Cancel.task, ignore_result=False)
@answering
def cancel(**payload: Any) -> dict[str, Any]:
    return end_job(Cancel.read(payload), runtime())


def end_job(request: Cancel, runtime: Runtime) -> dict[str, Any]:
    """Cancel a job; its status afterwards. Raises UnknownJob."""
    job = UUID(request.job)

    def cancel(session: Session) -> None:
        if cancel_job(session, job):
            actions.record(session, request.by or actions.NOT_SAID, "cancel", f"job {job}")

    runtime.transact_long(cancel)
    notify([job])
    announce_job(runtime, job)
    return asdict(runtime.transact(jobs.status, job))


@app.task(name=ListDead.task, ignore_result=False)
@answering
def list_dead(**payload: Any) -> dict[str, Any]:
    limit = min(ListDead.read(payload).limit, PAGE)
    return {"batches": [asdict(batch) for batch in runtime().transact(dead.page, limit=limit)]}


@app.task(name=Requeue.task, ignore_result=False)
@answering
def requeue(**payload: Any) -> dict[str, Any]:
    return {"job": requeue_batch(Requeue.read(payload), runtime())}


def requeue_batch(request: Requeue, runtime: Runtime) -> str:
    """Queue a dead batch again and publish it; its job's id. Raises UnknownBatch, NotRescuable."""
    requeued = actions.recorded(dead.requeue, request.by, "requeue", f"batch {request.batch}")
    job, kind = runtime.transact_long(requeued, request.batch)
    publish([(request.batch, kind)])
    return job
