"""Requests that hold work back and let it go on, for many jobs at once, and who asked for what: on the lane `control`.

It must not hold anything back itself: claims and all that publishes ask the ledger.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from db.queue import actions, inbox, jobs, retrying, steering
from db.queue.pauses import Pause
from tasks import broker
from tasks.answering import InvalidRequest, answering
from tasks.jobs import PAGE
from tasks.upkeep import repeat, tell_paused
from twinvec_client.contract.broker import key_prefix
from twinvec_client.contract.messages import FailuresToRetry, ListActions, PauseWork, ResumeWork, UnfinishedJobs
from worker.app import app
from worker.notices import notify
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)


@app.task(name=PauseWork.task, ignore_result=False)
@answering
def pause(**payload: Any) -> dict[str, Any]:
    return {"pause": asdict(hold(PauseWork.read(payload), runtime()))}


@app.task(name=ResumeWork.task, ignore_result=False)
@answering
def resume(**payload: Any) -> dict[str, Any]:
    return {"resumed": let_go_on(ResumeWork.read(payload), runtime())}


@app.task(name=ListActions.task, ignore_result=False)
@answering
def list_actions(**payload: Any) -> dict[str, Any]:
    limit = min(ListActions.read(payload).limit, PAGE)
    return {"actions": [asdict(action) for action in runtime().transact(actions.latest, limit=limit)]}


@app.task(name=UnfinishedJobs.task, ignore_result=False)
@answering
def unfinished_jobs(**payload: Any) -> dict[str, Any]:
    return {"jobs": [asdict(job) for job in unfinished(UnfinishedJobs.read(payload), runtime())]}


@app.task(name=FailuresToRetry.task, ignore_result=False)
@answering
def failures_to_retry(**payload: Any) -> dict[str, Any]:
    return to_retry(FailuresToRetry.read(payload), runtime())


def hold(request: PauseWork, runtime: Runtime) -> Pause:
    """Pause a lane or a job. Raises UnknownJob, NotPausable."""
    by, why = request.by, request.why
    if request.job is not None:
        job = UUID(request.job)
        noted = actions.recorded(steering.pause_job, by, "pause", f"job {job}", _said(why))
        paused = runtime.transact(noted, job, by=by, why=why)
        notify([job])
    else:
        lane = request.paused_lane or ""
        verb = "drain" if request.drain else "pause"
        noted_lane = actions.recorded(steering.pause_lane, by, verb, f"lane {lane}", _said(why))
        paused = left_of(runtime.transact(noted_lane, lane, by=by, why=why, drain=request.drain), runtime)
        tell_paused(runtime)
    log.info("%s paused %s%s", by, f"the lane {paused.lane}" if paused.lane else f"job {request.job}", _because(why))
    return paused


def let_go_on(request: ResumeWork, runtime: Runtime) -> bool:
    """Resume a lane or a job, and publish what it held; whether it was paused. Raises UnknownJob."""

    def resume(session: Session) -> bool:
        if request.job is not None:
            target, was = f"job {request.job}", steering.resume_job(session, UUID(request.job))
        else:
            lane = request.paused_lane or ""
            target, was = f"lane {lane}", steering.resume_lane(session, lane, by=request.by)
        if was:
            actions.record(session, request.by, "resume", target)
        return was

    was_paused = runtime.transact_long(resume)
    if was_paused:
        log.info(
            "%s resumed %s", request.by, f"job {request.job}" if request.job else f"the lane {request.paused_lane}"
        )
    tell_paused(runtime)
    repeat(runtime)
    if request.job is not None:
        notify([UUID(request.job)])
    return was_paused


def left_of(paused: Pause, runtime: Runtime) -> Pause:
    """The pause of `intake`, with what it still waits for where it drains: messages, and chunks in the database."""
    if paused.lane != "intake" or not paused.draining:
        return paused
    waiting = broker.connected().llen(key_prefix(runtime.settings.lane_prefix()) + "intake")
    return replace(paused, left=waiting + runtime.transact(inbox.count))


def unfinished(request: UnfinishedJobs, runtime: Runtime) -> list[jobs.JobStatus]:
    """Those that the request is for, newest first."""
    return runtime.transact_long(
        jobs.unfinished,
        collection=request.collection,
        kind=request.kind,
        state=request.state,
        since=request.since,
        limit=min(request.limit, PAGE),
    )


def to_retry(request: FailuresToRetry, runtime: Runtime) -> dict[str, Any]:
    """A page of failures with what was sent, who asks stands on record with the first; or the collections that have
    some. Raises InvalidRequest."""
    reason, since, collection = request.reason, request.since, request.collection
    if collection is None:
        found_in = runtime.transact_long(retrying.collections, reason=reason, since=since)
        return {"collections": found_in, "failures": [], "after": None}

    def page(session: Session) -> retrying.Page:
        if request.after is None:
            asked = {"reason": reason, "since": since}
            named = {name: value for name, value in asked.items() if value is not None}
            actions.record(session, request.by, "retry", f"collection {collection}", named or None)
        return retrying.page(session, collection, reason=reason, since=since, after=request.after, limit=PAGE)

    try:
        found = runtime.transact_long(page)
    except (TypeError, ValueError):
        raise InvalidRequest(f"after is {request.after!r:.80}: the `after` of a page before") from None
    return {
        "collections": [],
        "failures": [
            {
                "job": str(row.job),
                "collection": row.collection,
                "key": row.key,
                "reason": row.reason,
                "is_glyph": row.is_glyph,
                "label": row.label,
                "attributes": None if row.attributes is None else json.dumps(row.attributes),
                "picture": row.picture,
            }
            for row in found.failures
        ],
        "after": found.after,
    }


def _said(why: str | None) -> dict[str, Any] | None:
    return None if why is None else {"why": why}


def _because(why: str | None) -> str:
    return "" if why is None else f": {why}"
