"""Tell callers that their jobs have ended: from the ledger, so that no death on the way can swallow it."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from db import jobs
from worker.callbacks import call
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def announce(runtime: Runtime, job: uuid.UUID | None = None) -> None:
    """Call the callback of every job that has ended and was not announced, or of one job if it has.

    At least once: what dies between the call and its note calls again. What the broker does not take is tried again
    at the next sweep.
    """
    for status in runtime.transact(lambda session: jobs.to_announce(session, job=job)):
        callback, id = status.pop("callback"), uuid.UUID(status["id"])
        try:
            call(callback, told(status))
        except (OperationalError, RedisError) as error:
            log.warning("could not call %s of job %s on %s: %s", callback["task"], id, callback["queue"], error)
            continue
        note(runtime, id)
        log.info("called %s on %s: job %s is %s", callback["task"], callback["queue"], id, status["state"])


def note(runtime: Runtime, id: uuid.UUID) -> None:
    runtime.transact(lambda session: jobs.announced(session, id))


def told(status: dict[str, Any]) -> dict[str, Any]:
    """What the caller's task is given: where the job stands, without what changes while it runs."""
    return {name: value for name, value in status.items() if name != "progress"}
