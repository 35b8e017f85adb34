"""Take in the chunks that applications have left in the database, as those that came through the broker."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy.exc import DBAPIError

from db.queue import inbox, pauses
from tasks.intake import TIME_LIMIT, take_in
from twinvec_client.contract.messages import BadMessage, Intake, TakeInbox
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

SECONDS = 10.0  # of one message; the next sweep sends another
HELD = 120.0  # seconds until another process may take a chunk up as well; to take it in twice does no harm
MOST = 5  # times that a chunk is taken up before it is given up


@app.task(name=TakeInbox.task, time_limit=TIME_LIMIT)
def take_inbox(**_: Any) -> None:
    empty(runtime())


def empty(runtime: Runtime) -> int:
    """Take in what waits, for some seconds; how many chunks were taken in."""
    until, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        paused = runtime.transact(pauses.of_lane, "intake")
        left = runtime.transact(inbox.take, seconds=HELD) if paused is None or paused.draining else None
        if left is None:
            break
        count += take_one(left, runtime)
    if count:
        log.info("took in %d chunks that applications had left in the database", count)
    return count


def take_one(left: inbox.Left, runtime: Runtime) -> bool:
    """Whether a chunk stands in the ledger now. Where the database fails it is given back, and the error raised."""
    if left.attempts > MOST:
        why = f"taken up {left.attempts - 1} times and never finished"
    else:
        try:  # what was taken up before may have crashed the process: it is decoded where it can harm nothing
            take_in(Intake.unpack(left.message), runtime, redelivered=left.attempts > 1)
        except DBAPIError:
            runtime.transact(inbox.give_back, left.id)
            raise
        except BadMessage as error:
            why = str(error)
        else:
            runtime.transact(inbox.remove, left.id)
            return True
    runtime.transact(inbox.refuse, left.id, why)
    log.error("chunk %d of the inbox cannot be taken in: %s", left.id, why)
    return False
