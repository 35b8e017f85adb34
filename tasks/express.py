"""Take small jobs in and embed them in one go, in a process that no bulk job holds up. It must not know queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from db.errors import first_line
from db.queue.leases import Lease
from tasks import joining
from tasks.answering import Reply, refusal
from tasks.embed import embed_claimed
from tasks.intake import LanePaused, keep
from twinvec_client.contract.messages import BadMessage, Express
from worker.app import app
from worker.logs import about
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
    return take_together(job, joining.take_along(Express, lambda _: True, runtime()), runtime())


def take_together(first: Express, others: Sequence[joining.Waiting[Express]], runtime: Runtime) -> Reply:
    """Store the jobs, each by itself, embed them together, and answer the others; what to answer to the first."""
    leases: list[Lease] = []
    reply, *replies = [take(job, leases, runtime) for job in (first, *(other.request for other in others))]
    embed_all(leases, runtime)
    for other, theirs in zip(others, replies, strict=True):
        joining.answer(other, theirs, runtime)
    return reply


def take(job: Express, leases: list[Lease], runtime: Runtime) -> Reply:
    """Store one, and claim its batch with it; what to answer. Its lease is added to those to embed.

    One that cannot be claimed, since there is no tower or it is paused, is accepted, and the sweep publishes it.
    """
    try:
        kept = keep(job, runtime, seconds=PICTURES_SECONDS, claimed=True)
    except BadMessage as error:
        return refusal("InvalidRequest", str(error))
    except LanePaused as paused:
        return refusal("Paused", str(paused))
    except DBAPIError as error:
        log.error("could not store job %s: %s", job.job, first_line(error), extra=about(job=job.job))
        return refusal("DatabaseUnavailable", first_line(error))
    except Exception as error:  # the others are answered none the less
        log.exception("could not store job %s", job.job, extra=about(job=job.job))
        return refusal(type(error).__name__, first_line(error))
    if kept.lease is not None:
        leases.append(kept.lease)
    return {"digest": kept.digest}


def embed_all(leases: Sequence[Lease], runtime: Runtime) -> None:
    """Embed what stands in SQL already: what is not embedded here is tried again.

    Look-ups are answered here as well: where a tower has to be loaded first, which takes seconds, that is done aside.
    """
    try:
        # In the order of ids, in which a cancel locks a job's batches as well: no deadlock.
        embed_claimed(sorted(leases, key=lambda lease: lease.batch), runtime, loads=False)
    except Exception:
        log.exception("could not embed %d small jobs, which are accepted and tried again", len(leases))
