"""What keeps the promises: expired leases, unheard bells, towers that are ready, vectors that are owed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db import locks
from db.engine import transact_once
from db.queue import rescue
from db.vectors import backfill, lifecycle, partitions
from tasks.announce import announce
from twinvec_client.contract.messages import BackfillDue, Sweep
from worker.app import app
from worker.outbox import depths, publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


@app.task(name=Sweep.task)
def sweep_now(**_: Any) -> None:
    sweep(runtime())


@app.task(name=BackfillDue.task)
def backfill_due(**_: Any) -> None:
    queue_backfill(runtime())


def sweep(runtime: Runtime) -> None:
    """One round of upkeep. Safe to run anywhere, any time: of several at once one works and the rest go home.

    Each step is a transaction of its own: while one waits for its locks it holds no rows of the others.
    """
    settings = runtime.settings
    if poisoned := run_exclusively(runtime, rescue.rescue, max_attempts=settings.max_attempts):
        log.warning("split or buried %d batches that killed their workers", poisoned)
    run_exclusively(runtime, backfill.end_finished)
    if (decision := run_exclusively(runtime, lifecycle.promote_ready)) is not None:
        tell_of(decision)
    repeat(runtime)
    announce(runtime)
    drop_partitions(runtime)


def tell_of(decision: lifecycle.Decision) -> None:
    if decision.rejected_because is None:
        log.info("promoted tower %d (%.12s): no vector is due under it", decision.tower, decision.fingerprint)
    else:
        log.warning("rejected tower %d (%.12s): %s", decision.tower, decision.fingerprint, decision.rejected_because)


def repeat(runtime: Runtime) -> None:
    """Ring for what is due, as long as few bells wait on its lane: one without workers must not fill the broker.

    Nor silence the others: each lane has its own count.
    """
    settings = runtime.settings
    try:
        waiting = depths()
    except (BrokerError, RedisError) as error:
        log.warning("no broker to ring with: %s", error)
        return
    for kind, bells in waiting.items():
        room = settings.in_flight - bells
        if room > 0:
            due = run_exclusively(
                runtime, rescue.take_due, kind, republish_after=settings.republish_after, in_flight=room
            )
            publish(due or [])


def run_exclusively(
    runtime: Runtime, step: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Run a step of the sweep in a transaction; None where another process sweeps now."""

    def exclusive(session: Session) -> T | None:
        return step(session, *args, **kwargs) if locks.try_sweep(session) else None

    return runtime.transact(exclusive)


def drop_partitions(runtime: Runtime) -> None:
    """Drop the vectors of retired and rejected towers, when nobody is in the way."""

    def close(session: Session) -> None:
        locks.hold_towers(session)  # the same weights may be trained again, and get a space anew
        for tower in partitions.partitions_to_drop(session):
            session.execute(text("SET LOCAL lock_timeout = '500ms'"))
            partitions.drop_partition(session, tower)
            log.info("dropped the vectors of tower %d", tower)

    try:
        transact_once(runtime.engine, close)  # whoever waits to drop a table makes others wait
    except OperationalError as error:  # somebody reads or writes; the next sweep tries again
        log.info("vectors of old towers are still in use: %s", str(error.orig).strip().splitlines()[0])


def queue_backfill(runtime: Runtime) -> None:
    """Queue what is owed under the live tower and waits in no batch, and ring for it."""
    if owed := runtime.transact(backfill.queue_due):
        log.info("queued %d digits whose vectors are owed", owed)
        sweep(runtime)
