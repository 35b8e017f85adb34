"""Holding work back, and what is asked for of many jobs at once. It must not know the face of the client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

import numpy as np

from twinvec_client.asker import asker
from twinvec_client.chunks import JobOptions
from twinvec_client.connection import Connection
from twinvec_client.contract.answers import FailureToRetry
from twinvec_client.contract.limits import MAX_NAME_CHARS, MAX_SECONDS, is_name
from twinvec_client.contract.messages import Cancel, FailuresToRetry, PauseWork, ResumeWork, UnfinishedJobs
from twinvec_client.contract.reasons import REASONS
from twinvec_client.contract.states import JobKind, JobState, PausableLane
from twinvec_client.delivery import Pace, deliver, new_job
from twinvec_client.errors import InvalidRequest, UnknownJob
from twinvec_client.pictures import Digit
from twinvec_client.results import JobStatus, Pause

LANES = get_args(PausableLane)
_PAGE = 100  # jobs a request

Since = float | timedelta


def pause(connection: Connection, *, lane: Any, job: Any, why: Any, drain: bool = False) -> Pause:
    lane, job = _target(lane, job)
    if why is not None and not is_name(why, MAX_NAME_CHARS):
        raise InvalidRequest(f"why is {why!r:.80}: a string of 1 to {MAX_NAME_CHARS} characters without NUL")
    request = PauseWork(paused_lane=lane, job=job, drain=drain, why=why, by=asker())
    return Pause.read(connection.ask(request)["pause"])


def resume(connection: Connection, *, lane: Any, job: Any) -> bool:
    lane, job = _target(lane, job)
    return bool(connection.ask(ResumeWork(paused_lane=lane, job=job, by=asker()))["resumed"])


def unfinished(connection: Connection, *, collection: Any, kind: Any, state: Any, since: Any) -> list[JobStatus]:
    """The newest that a filter passes, 1,000 at most."""
    return _unfinished(connection, collection=collection, kind=kind, state=state, since=since, limit=1000)


def cancel(connection: Connection, *, collection: Any, kind: Any, state: Any, since: Any) -> list[JobStatus]:
    """Cancel all that a filter passes; what became of each."""
    done: dict[str, JobStatus] = {}
    filters = {"collection": collection, "kind": kind, "state": state, "since": since}
    while True:
        found = _unfinished(connection, **filters, limit=_PAGE)
        left = [job for job in found if job.id not in done]
        for job in left:
            done[job.id] = JobStatus.read(connection.ask(Cancel(job=job.id, by=asker())))
        if not left:
            return list(done.values())


def retry(
    connection: Connection,
    *,
    collection: str | None,
    reason: Any,
    since: Any,
    normalise: bool,
    pace: Pace,
    progress: bool = False,
) -> list[str]:
    """Send failed pictures again, those of each collection as one job; the ids of these."""
    filters = {"reason": _one_of("reason", reason, tuple(REASONS)), "since": _seconds(since), "by": asker()}
    if collection is not None:
        collections = [collection]
    else:
        collections = connection.ask(FailuresToRetry(collection=None, after=None, **filters))["collections"]
    jobs: list[str] = []
    for each in collections:
        options = JobOptions(job=new_job(), collection=each, normalise=normalise)
        deliver(connection, _failed(connection, each, filters), options, pace=pace, progress=progress)
        jobs.append(options.job)
    return jobs


def _failed(connection: Connection, collection: str, filters: dict[str, Any]) -> Iterator[tuple[str, Digit]]:
    """What was sent of the failures of a collection, page by page."""
    after: str | None = None
    while True:
        answer = connection.ask(FailuresToRetry(collection=collection, after=after, **filters))
        for failure in map(FailureToRetry.read, answer["failures"]):
            yield failure.key, Digit(_sent(failure), failure.label, failure.attributes)
        after = answer["after"]
        if after is None:
            return


def _sent(failure: FailureToRetry) -> Any:
    return np.frombuffer(failure.picture, np.uint8).reshape(28, 28) if failure.is_glyph else failure.picture


def _unfinished(
    connection: Connection, *, collection: Any, kind: Any, state: Any, since: Any, limit: int
) -> list[JobStatus]:
    request = UnfinishedJobs(
        collection=collection,
        kind=_one_of("kind", kind, get_args(JobKind)),
        state=_one_of("state", state, get_args(JobState)),
        since=_seconds(since),
        limit=limit,
    )
    return [JobStatus.read(job) for job in connection.ask(request)["jobs"]]


def _target(lane: Any, job: Any) -> tuple[Any, str | None]:
    """One of both. Raises InvalidRequest, UnknownJob."""
    if (lane is None) == (job is None):
        raise InvalidRequest("give one of lane and job")
    if job is None:
        return _one_of("lane", lane, LANES), None
    try:
        return None, str(uuid.UUID(str(job)))
    except ValueError:
        raise UnknownJob(f"{job!r:.80} is not a job id") from None


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value is not None and value not in known:
        raise InvalidRequest(f"{name} is {value!r:.80}: one of {', '.join(known)}")
    return value


def _seconds(since: Any) -> float | None:
    """Raises InvalidRequest."""
    if since is None:
        return None
    seconds = since.total_seconds() if isinstance(since, timedelta) else since
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise InvalidRequest(f"since is {since!r:.80}: seconds, or a timedelta, into the past")
    return float(seconds)
