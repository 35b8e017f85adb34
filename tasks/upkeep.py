"""Upkeep: expired leases, batches to publish again, abandoned jobs, callbacks, towers to promote, vectors that are due.

It must not decide what is due or ready: each step is a function of `db`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db import locks, sessions
from db.engine import is_unreachable, transact_once
from db.queue import abandon, inbox, pauses, rescue, trainings
from db.states import JobKind
from db.vectors import backfill, lifecycle, partitions, placing
from tasks.announce import announce
from tasks.broker import connected
from twinvec_client.contract.broker import key_prefix
from twinvec_client.contract.messages import BackfillDue, Sweep, TakeInbox
from worker import held, metrics, throttle
from worker.app import app
from worker.notices import notify
from worker.outbox import ask, depths, publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

PLACING = 0.5  # seconds of a sweep
DROP_AGAIN = 60.0  # seconds after vectors could not be dropped
BACKFILLS_AT_ONCE = 8  # batches of a backfill published for each of another kind
INBOX_DEPTH = 200  # messages on the lane `intake`, with which no more are sent to open the inbox
P = ParamSpec("P")
T = TypeVar("T")


@app.task(name=Sweep.task)
def sweep_now(**_: Any) -> None:
    throttle.upkeep.run(lambda: sweep(runtime()))


@app.task(name=BackfillDue.task)
def backfill_due(**_: Any) -> None:
    queue_backfill(runtime())


def sweep(runtime: Runtime) -> None:
    """One round of upkeep. Safe anywhere and at any time: if several run at once, one sweeps and the others return.

    Each step is a transaction of its own, so that a step which waits for locks holds no rows of another step. One that
    fails does not stop those after it; what it raised is raised at the end, and at once where the database is away.
    """
    failed: Exception | None = None
    for step in STEPS:
        try:
            step(runtime)
        except Exception as error:
            if is_unreachable(error):
                raise
            log.exception("a step of the sweep failed: %s", step.__name__)
            failed = failed or error
    if failed is not None:
        raise failed


def end_silent(runtime: Runtime) -> None:
    """End the sessions of clients that have gone without a word, and with them the locks they hold."""
    limit = runtime.settings.statement_timeout
    if silent := run_exclusively(runtime, sessions.end_silent, statement_limit=limit):
        log.warning("ended %d sessions of the database whose clients had fallen silent", silent)


def isolate(runtime: Runtime) -> None:
    """Queue the batches of dead workers again, and split or give up those that are the cause."""
    settings = runtime.settings
    limits = {
        "max_attempts": settings.max_attempts,
        "max_errors": settings.max_errors,
        "kept_bytes": settings.job_failure_bytes,
    }
    rescued = run_exclusively(runtime, rescue.rescue, **limits)
    if rescued is None:
        return
    metrics.EXPIRIES.inc(rescued.expired)
    metrics.ISOLATED.inc(rescued.isolated)
    metrics.count_failed(rescued.failed.elements())
    if rescued.isolated:
        log.warning("split or marked dead %d batches that crashed their workers or always failed", rescued.isolated)


def open_inbox(runtime: Runtime) -> None:
    """Let a worker take in what applications have left in the database."""
    paused = runtime.transact(pauses.of_lane, "intake")
    if (paused is None or paused.draining) and runtime.transact(inbox.is_waiting):
        ask(TakeInbox(), most=INBOX_DEPTH)


def tell_paused(runtime: Runtime) -> None:
    """Note in the broker which lanes workers are not to read: it may have been emptied, and SQL is what counts."""
    paused = runtime.transact(pauses.of_lanes)
    lanes = [lane for lane, pause in paused.items() if not pause.draining]
    try:
        held.write(connected(), lanes, key_prefix(runtime.settings.lane_prefix()))
    except RedisError as error:
        log.warning("could not tell workers what is paused: %s", error)


def end_backfills(runtime: Runtime) -> None:
    run_exclusively(runtime, backfill.end_finished)


def judge(runtime: Runtime) -> None:
    """Have the candidate judged where no vector is due under it."""
    opened = run_exclusively(runtime, lifecycle.open_judging)
    if isinstance(opened, lifecycle.Decision):
        tell_of(opened)
    elif opened is not None:
        publish([(opened, JobKind.JUDGE)])


def promote(runtime: Runtime) -> None:
    """Let the candidate go live where it passed."""
    auto, maintain = runtime.settings.auto_promote, runtime.settings.maintain_previous
    if (decision := run_exclusively(runtime, lifecycle.promote_ready, auto=auto, maintain=maintain)) is not None:
        tell_of(decision)


def tell_of(decision: lifecycle.Decision) -> None:
    if decision.rejected_because is None:
        log.info("promoted tower %d (%.12s): no vector is due under it", decision.tower, decision.fingerprint)
    else:
        log.warning("rejected tower %d (%.12s): %s", decision.tower, decision.fingerprint, decision.rejected_because)


def roll_back(runtime: Runtime) -> None:
    """Finish a rollback that waited for vectors."""
    maintain = runtime.settings.maintain_previous
    decision = run_exclusively(runtime, lifecycle.roll_back_ready, maintain=maintain)
    if decision is not None and decision.rejected_because is not None:
        log.warning("gave the rollback to tower %d up: %s", decision.tower, decision.rejected_because)
    elif decision is not None:
        log.info("rolled back to tower %d (%.12s): no vector is due under it", decision.tower, decision.fingerprint)


def keep_previous(runtime: Runtime) -> None:
    """Retire the previous tower when its time is over."""
    days, maintain = runtime.settings.keep_previous, runtime.settings.maintain_previous
    for tower in run_exclusively(runtime, lifecycle.keep_previous, days=days, maintain=maintain) or []:
        log.info("retired tower %d: it was live until %g days ago", tower, days)


def end_trainings(runtime: Runtime) -> None:
    """End the training that waited for its tower to be live or rejected."""
    if (job := run_exclusively(runtime, trainings.end_promoted, auto=runtime.settings.auto_promote)) is not None:
        log.info("training %s has ended: its tower is a candidate no longer", job)
        notify([job])


def repeat(runtime: Runtime) -> None:
    """Publish batches that are due, as long as few messages wait on their lane.

    A lane without workers must neither fill the broker nor hold up the others: each lane has a count of its own.
    """
    settings = runtime.settings
    try:
        waiting = depths()
    except (BrokerError, RedisError) as error:
        log.warning("could not publish: the broker does not answer: %s", error)
        return
    for kind, depth in waiting.items():
        # Else a backfill, whose batches are small, would wait for the next sweep.
        most = settings.in_flight * (BACKFILLS_AT_ONCE if kind == JobKind.BACKFILL else 1)
        room = most - depth
        if room > 0:
            due = run_exclusively(
                runtime, rescue.take_due, kind, republish_after=settings.republish_after, in_flight=room
            )
            publish(due or [])


def end_abandoned(runtime: Runtime) -> None:
    """End the jobs whose clients have gone."""
    after = runtime.settings.abandoned_after
    if after and (gone := run_exclusively(runtime, abandon.abandon, after=after)):
        log.warning("%d jobs end as abandoned: their clients have sent no chunk for %g s", gone, after)


def place(runtime: Runtime) -> None:
    """Give vectors of a version before their place in their tower's frame, for half a second."""
    until, placed = time.monotonic() + PLACING, 0
    while time.monotonic() < until and (some := run_exclusively(runtime, placing.place_some)):
        placed += some
    if placed:
        log.info("placed %d vectors in the frames of their towers", placed)


def run_exclusively(
    runtime: Runtime, step: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Run a step of the sweep in a transaction; None where another process sweeps now."""

    def exclusive(session: Session) -> T | None:
        return step(session, *args, **kwargs) if locks.try_sweep(session) else None

    return runtime.transact_long(exclusive)


class Dropping:
    """When vectors may be dropped again, by `time.monotonic()`. Each try makes others wait for half a second, and
    whatever holds the table may hold it for hours."""

    not_before = 0.0


def drop_partitions(runtime: Runtime) -> None:
    """Drop the vectors of retired and rejected towers, unless a query or a write holds the table."""
    if time.monotonic() < Dropping.not_before:
        return

    def close(session: Session) -> None:
        locks.hold_towers(session)  # the same weights may be registered again, with a new partition
        for tower in partitions.partitions_to_drop(session):
            session.execute(text("SET LOCAL lock_timeout = '500ms'"))
            partitions.drop_partition(session, tower)
            log.info("dropped the vectors of tower %d", tower)

    try:
        transact_once(runtime.engine, close)  # waiting to drop a table makes others wait: no second try
    except OperationalError as error:  # it is being read or written
        Dropping.not_before = time.monotonic() + DROP_AGAIN
        log.info("vectors of old towers are still in use: %s", str(error.orig).strip().splitlines()[0])


def queue_backfill(runtime: Runtime) -> None:
    """Queue the vectors that are due under the live tower and wait in no batch, and publish them."""
    if count := runtime.transact_long(backfill.queue_due):
        log.info("queued %d digits whose vectors are due", count)
        sweep(runtime)


STEPS = (
    tell_paused,
    end_silent,
    isolate,
    open_inbox,
    end_backfills,
    judge,
    promote,
    roll_back,
    keep_previous,
    end_trainings,
    repeat,
    end_abandoned,
    announce,
    place,
    drop_partitions,
)
