"""Calls callbacks when jobs have ended: from the ledger, so that no crash loses a call.

It must not decide when a job has ended: `db.queue.callbacks` does.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from db.errors import first_line
from db.queue import callbacks
from db.queue.jobs import JobStatus
from worker.callbacks import call
from worker.logs import about
from worker.runtime import Runtime

log = logging.getLogger(__name__)


def announce(runtime: Runtime) -> None:
    """Call the callback of every job that has ended and was not called back."""
    for job in runtime.transact(callbacks.due):
        announce_job(runtime, job)


def announce_job(runtime: Runtime, job: uuid.UUID) -> None:
    """Call a job's callback if it is due, and note that it was called, in one transaction.

    At least once: after a crash between the call and the commit it is called again. A call that fails, whatever the
    reason, is made again later and later, and given up at last; the others do not wait for it.
    """

    def tell(session: Session) -> None:
        held = callbacks.take(session, job)
        if held is None:
            return
        callback, status = held
        try:
            call(callback, public_status(status))
        except Exception as error:
            raise _NotCalled(first_line(error)) from error
        log.info(
            "called %s on %s: job %s is %s",
            callback["task"],
            callback["queue"],
            job,
            status.state,
            extra=about(job=job),
        )

    try:
        runtime.transact(tell)
    except _NotCalled as error:
        given_up = runtime.transact(callbacks.postpone, job, str(error), most=runtime.settings.max_callbacks)
        then = "gave it up" if given_up else "it is tried again"
        log.warning(
            "could not call back for job %s, %s: %s", job, then, json.dumps(str(error))[1:-1], extra=about(job=job)
        )


class _NotCalled(Exception):
    """The broker did not take a call."""


def public_status(status: JobStatus) -> dict[str, Any]:
    """The argument of the caller's task: the job's status without its progress, which is over."""
    return {name: value for name, value in asdict(status).items() if name != "progress"}
