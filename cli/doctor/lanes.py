"""Checks of the lanes: not whether a worker is there, but whether its work gets done. A probe goes through each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import redis
from sqlalchemy import Connection, text

from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from db.states import JobKind
from twinvec_client import NoAnswer, TwinvecError
from twinvec_client.connection import Connection as Broker
from twinvec_client.contract.broker import LANES, PREFIX, key_prefix
from twinvec_client.contract.messages import Probe
from worker import held, roster
from worker.broker import connect_broker
from worker.watchdog import LISTENING

PROBE_TIMEOUT = 10.0  # seconds
STANDS_STILL = 120  # seconds for which a batch may wait while none is finished or worked on
RECENT = 30  # seconds; a lane that finished a batch since then works, though its probe waits behind others


@dataclass(frozen=True)
class Lane:
    """What was seen of a lane."""

    name: str
    listening: bool
    waiting: int  # messages in the broker
    probed: dict[str, Any] | TwinvecError | None  # a probe's answer, or why there is none
    seconds: float = 0.0  # from the probe's sending to its answer
    read: bool = True  # whether its workers read it now: a paused intake is left alone, and answers no probe
    elsewhere: tuple[str, ...] = ()  # processes that finish batches, and not of this lane


@dataclass(frozen=True)
class Work:
    """What the ledger says of a lane's batches, in seconds from now; None where there is none."""

    finished: float | None  # since the last was finished
    queued: float | None  # since the oldest that waits was queued
    ready: float | None  # since the oldest that waits for nothing but a worker was queued, or was to be tried again
    leased: bool  # whether one is being worked on
    paused: bool = False  # whether the lane is held back


def lanes(broker_url: str, names: Sequence[str] = LANES, *, prefix: str = PREFIX) -> list[Lane]:
    """Probe lanes, all at once. Raises redis's errors."""
    keys = key_prefix(prefix)
    with connect_broker(broker_url, socket_connect_timeout=3, socket_timeout=10) as server:
        seen = [(name, server.get(f"{keys}{LISTENING}{name}") is not None, server.llen(keys + name)) for name in names]
        unread = held.read(server, keys)
        noted = _noted(server, keys)
    with ThreadPoolExecutor(len(seen)) as pool:
        probes = {
            name: pool.submit(probe, broker_url, name, prefix)
            for name, listening, _ in seen
            if listening and name not in unread
        }
        found = []
        for name, listening, waiting in seen:
            answer, seconds = probes[name].result() if name in probes else (None, 0.0)
            elsewhere = tuple(
                f"{worker.host}:{process}" for worker in noted if name not in worker.lanes for process in worker.pool
            )
            found.append(Lane(name, listening, int(waiting), answer, seconds, name not in unread, elsewhere))
        return found


def _noted(server: Any, keys: str) -> list[roster.Note]:
    """The workers that run, as far as this user may read it."""
    try:
        return [seen.note for seen in roster.read(server, keys)]
    except redis.ResponseError:
        return []


def probe(broker_url: str, lane: str, prefix: str = PREFIX) -> tuple[dict[str, Any] | TwinvecError, float]:
    """The answer of a lane's worker, or what stands in its place; seconds that it took."""
    start = time.monotonic()
    try:
        answer = Broker(broker_url, prefix=prefix).ask(Probe(), timeout=PROBE_TIMEOUT, lane=lane)
    except TwinvecError as error:
        return error, time.monotonic() - start
    return answer, time.monotonic() - start


def findings(lanes: list[Lane], connection: Connection | None) -> Iterator[Finding]:
    """One for all lanes that answered; one for each other. connection: to the ledger, where it can be reached."""
    absent = [lane for lane in lanes if not lane.listening]
    if absent:
        waiting = ", ".join(f"{lane.name} ({lane.waiting:,} waiting)" for lane in absent)
        names = ",".join(lane.name for lane in absent)
        advice = f"start one with `twinvec worker --lanes {names}`, or all with `twinvec up`"
        yield Finding("workers", PROBLEM, f"none on {waiting}", advice)
    if connection is not None:
        yield from paused(connection)
    answered = [lane for lane in lanes if isinstance(lane.probed, dict)]
    if answered:
        shown = ", ".join(f"{lane.name} {_milliseconds(lane.probed)}" for lane in answered)
        yield Finding("workers", OK, f"a probe came back on {shown}")
    for lane in answered:
        if connection is not None and (still := _stands_still(connection, lane)) is not None:
            yield still
    for lane in lanes:
        if isinstance(lane.probed, TwinvecError):
            yield _unanswered(lane, lane.probed, None if connection is None else work(connection, lane))


def paused(connection: Connection) -> Iterator[Finding]:
    """One for each lane that is paused, and one for all jobs that are: no fault, but what waits there waits for it."""
    rows = connection.execute(
        text("SELECT lane, upto, paused_by, paused_at, why FROM lane_pauses WHERE resumed_at IS NULL ORDER BY lane")
    )
    for row in rows:
        done = "is paused" if row.upto is None else "takes nothing new and finishes what it had"
        why = "" if row.why is None else f": {row.why}"
        since = f"{row.paused_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        said = f"the lane {row.lane} {done}, by {row.paused_by} since {since}{why}"
        yield Finding("workers", WARNING, said, f"`twinvec resume {row.lane}` lets it go on")
    ids = connection.execute(
        text("SELECT id FROM jobs WHERE paused_at IS NOT NULL AND pruned_at IS NULL AND cancelled_at IS NULL LIMIT 100")
    ).scalars()
    if jobs := [str(id) for id in ids]:
        shown = ", ".join(jobs[:3]) + (f" and {len(jobs) - 3} more" if len(jobs) > 3 else "")
        count = "a job is" if len(jobs) == 1 else f"{len(jobs)} jobs are"
        yield Finding("workers", WARNING, f"{count} paused: {shown}", f"`twinvec resume {jobs[0]}` lets it go on")


def _stands_still(connection: Connection, lane: Lane) -> Finding | None:
    """Of a lane whose workers answer: whether batches that could be worked on wait all the same."""
    found = work(connection, lane)
    if found is None or found.paused or found.leased or found.ready is None or found.ready < STANDS_STILL:
        return None
    if found.finished is not None and found.finished < STANDS_STILL:
        return None
    waits = f"a batch has been waiting for {found.ready:,.0f} s while none is worked on"
    said = f"{lane.name}: its workers answer, and {waits}"
    return Finding("workers", PROBLEM, said, "look at the log of the worker on the lane control, which sends them")


def work(connection: Connection, lane: Lane) -> Work | None:
    """What the ledger says of a lane; None for one that takes no batches. Small jobs are finished on another one."""
    if lane.name not in tuple(JobKind):  # the lanes that take batches are called as their jobs' kind
        return None
    row = connection.execute(
        text("""
            SELECT extract(epoch FROM now() - max(finished_at) FILTER (
                    WHERE state = 'done' AND worker <> ALL(CAST(:elsewhere AS text[]))
                )) AS finished,
                extract(epoch FROM now() - min(batches.created_at) FILTER (WHERE state = 'queued')) AS queued,
                extract(epoch FROM now() - min(coalesce(retry_at, batches.created_at)) FILTER (
                    WHERE state = 'queued' AND coalesce(retry_at < now(), true) AND jobs.paused_at IS NULL
                        AND (kind = 'train' OR EXISTS (SELECT FROM towers WHERE status = 'live'))
                )) AS ready,
                coalesce(bool_or(state = 'leased' AND lease_until > now()), false) AS leased,
                EXISTS (SELECT FROM lane_pauses WHERE lane = :kind AND resumed_at IS NULL) AS paused
            FROM batches JOIN jobs ON jobs.id = batches.job WHERE kind = :kind
            AND (state IN ('queued', 'leased') OR finished_at > now() - interval '1 day')
        """),
        {"kind": lane.name, "elsewhere": list(lane.elsewhere)},
    ).one()
    finished, queued, ready = (
        None if value is None else float(value) for value in (row.finished, row.queued, row.ready)
    )
    return Work(finished, queued, ready, row.leased, row.paused)


def _unanswered(lane: Lane, error: TwinvecError, work: Work | None) -> Finding:
    if not isinstance(error, NoAnswer):
        return Finding("workers", PROBLEM, f"{lane.name}: {error}", "look at that worker's log")
    if work is not None and lane.name == "train" and work.leased:
        return Finding("workers", OK, "train: a training is under way")
    if work is not None and work.finished is not None and work.finished < RECENT:
        found = f"{lane.name}: busy, the last batch was finished {work.finished:.0f} s ago"
        return Finding("workers", OK, found)
    found = (
        f"{lane.name}: a worker listens, and no probe came back within {PROBE_TIMEOUT:g} s; {lane.waiting:,} waiting"
    )
    if work is not None and work.queued is not None:
        found += f"; the oldest batch waits for {work.queued:,.0f} s"
    if work is not None:
        found += "; none was finished today" if work.finished is None else f"; the last {work.finished:,.0f} s ago"
    return Finding("workers", PROBLEM, found, "look at that worker's log; it may be cut off from broker or database")


def _milliseconds(answer: Any) -> str:
    seconds = answer["database"] + (answer["tower"] or 0)
    return f"({1000 * seconds:.0f} ms)"
