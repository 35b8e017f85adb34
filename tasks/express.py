"""Take small jobs in and embed them in one go, in a process that no bulk job holds up. It must not know queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from db.errors import first_line
from db.queue import pauses
from tasks import joining
from tasks.answering import Reply, refusal
from tasks.embed import embed
from tasks.intake import keep
from twinvec_client.contract.messages import BadMessage, Express
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

TIME_LIMIT = 120  # seconds, after which its process is ended
PICTURES_SECONDS = 10.0  # of the processor, for the pictures of one job: others wait meanwhile


@app.task(name=Express.task, ignore_result=False, time_limit=TIME_LIMIT)
def express(**payload: Any) -> Reply:
    try:
        job = Express.read(payload)
    except BadMessage as error:
        return refusal("InvalidRequest", str(error))
    try:
        if (paused := runtime().transact(pauses.of_lane, "intake")) is not None:
            return refusal("Paused", paused.sentence())
    except DBAPIError as error:
        return refusal("DatabaseUnavailable", first_line(error))
    return take_together(job, joining.take_along(Express, lambda _: True, runtime()), runtime())


def take_together(first: Express, others: Sequence[joining.Waiting[Express]], runtime: Runtime) -> Reply:
    """Store the jobs, each by itself, embed them together, and answer the others; what to answer to the first."""
    batches: list[int] = []
    reply, *replies = [take(job, batches, runtime) for job in (first, *(other.request for other in others))]
    embed_all(batches, runtime)
    for other, theirs in zip(others, replies, strict=True):
        joining.answer(other, theirs, runtime)
    return reply


def take(job: Express, batches: list[int], runtime: Runtime) -> Reply:
    """Store one; what to answer. Its batch is added to those to embed."""
    try:
        kept = keep(job, runtime, seconds=PICTURES_SECONDS)
    except BadMessage as error:
        return refusal("InvalidRequest", str(error))
    except DBAPIError as error:
        log.error("could not store job %s: %s", job.job, first_line(error))
        return refusal("DatabaseUnavailable", first_line(error))
    except Exception as error:  # the others are answered none the less
        log.exception("could not store job %s", job.job)
        return refusal(type(error).__name__, first_line(error))
    if kept.batch is not None:
        batches.append(kept.batch)
    return {"digest": kept.digest}


def embed_all(batches: Sequence[int], runtime: Runtime) -> None:
    """Embed batches that stand in SQL already: one that is not embedded here is tried again by the sweep. Of a lane or
    a job that is paused none is, and their senders are told by its status.

    Look-ups are answered here as well: where a tower has to be loaded first, which takes seconds, that is done aside.
    """
    done: set[int] = set()
    for batch in batches:
        if batch not in done:
            try:
                done |= embed(batch, runtime, loads=False)
            except Exception:
                log.exception("could not embed batch %d, which is accepted and tried again", batch)
