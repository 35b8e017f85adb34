"""Tell callers that their jobs have ended: from the ledger, so that no death on the way can swallow it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from db.queue import callbacks
from db.queue.jobs import JobStatus
from worker.callbacks import call
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def announce(runtime: Runtime) -> None:
    """Call the callback of every job that has ended and was not announced."""
    for job in runtime.transact(callbacks.due):
        announce_job(runtime, job)


def announce_job(runtime: Runtime, job: uuid.UUID) -> None:
    """Call a job's callback if it has ended and was not announced, and note it, in one transaction.

    At least once: what dies between the call and its commit calls again. What the broker does not take is tried again
    at the next sweep.
    """

    def tell(session: Session) -> None:
        held = callbacks.take(session, job)
        if held is None:
            return
        callback, status = held
        call(callback, public_status(status))
        log.info("called %s on %s: job %s is %s", callback["task"], callback["queue"], job, status.state)

    try:
        runtime.transact(tell)
    except (OperationalError, RedisError) as error:
        log.warning("could not call back for job %s: %s", job, error)


def public_status(status: JobStatus) -> dict[str, Any]:
    """What the caller's task is given: where the job stands, without what changes while it runs."""
    return {name: value for name, value in asdict(status).items() if name != "progress"}
