"""Take small jobs in and embed them in one go, in a process that no bulk job holds up. It must not know queries."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.errors import first_line
from db.queue.intake import Submission
from db.queue.leases import Lease
from db.queue.whole import Maintained, NotPlain, store_whole
from tasks import gating, joining
from tasks.announce import announce_job
from tasks.answering import Reply, refusal
from tasks.embed import embed_claimed
from tasks.intake import LanePaused, check, keep, submission_of
from twinvec_client.contract.messages import BadMessage, Express
from worker import callbacks, metrics
from worker.app import app
from worker.logs import about
from worker.notices import notify_later, notify_now
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

TIME_LIMIT = 120  # seconds, after which its process is ended
PICTURES_SECONDS = 10.0  # of the processor, for the pictures of one job: others wait meanwhile


def announce(*_: Any) -> None:
    """Tell those who follow the jobs; the answer is sent by then."""
    notify_now()


@app.task(name=Express.task, ignore_result=False, time_limit=TIME_LIMIT, after_return=announce)
def express(**payload: Any) -> Reply:
    try:
        job = Express.read(payload)
    except BadMessage as error:
        return refusal("InvalidRequest", str(error))
    return take_together(job, joining.take_along(Express, lambda _: True, runtime()), runtime())


def take_together(first: Express, others: Sequence[joining.Waiting[Express]], runtime: Runtime) -> Reply:
    """Store the jobs and embed them, together where that can be, and answer the others; what to answer to the first."""
    reply, *replies = replies_to([first, *(other.request for other in others)], runtime)
    joining.answer(list(zip(others, replies, strict=True)), runtime)
    return reply


def replies_to(jobs: Sequence[Express], runtime: Runtime) -> list[Reply]:
    """What to answer to each job: whole ones are stored in one transaction, others each by itself and embedded then."""
    replies = take_whole(jobs, runtime)
    if replies is not None:
        return replies
    leases: list[Lease] = []
    alone = [take_whole([job], runtime) if len(jobs) > 1 else None for job in jobs]
    found = [take(job, leases, runtime) if whole is None else whole[0] for job, whole in zip(jobs, alone, strict=True)]
    embed_all(leases, runtime)
    return found


def take_whole(jobs: Sequence[Express], runtime: Runtime) -> list[Reply] | None:
    """Store jobs with their vectors in one transaction, and say how each ended; None where nothing was stored."""
    start = time.perf_counter()
    try:
        chunks = [whole_chunk(job, runtime) for job in jobs]
        read = time.perf_counter()
        statuses = runtime.transact(store_whole, chunks, partial(embed_whole, runtime), worker=runtime.name)
    except (NotPlain, BadMessage):
        return None
    except Exception as error:  # each is tried alone then, and says what it fails with
        log.info("could not store %d small jobs whole: %s", len(jobs), first_line(error))
        return None
    stored = time.perf_counter()
    count = sum(len(chunk.items) for chunk in chunks)
    metrics.count_whole([len(chunk.items) for chunk in chunks], decode=read - start, store=stored - read)
    log.info(
        "took in and embedded %d digits of %s: decoded in %.3f s, stored in %.3f s",
        count,
        f"job {chunks[0].job}" if len(chunks) == 1 else f"{len(chunks)} small jobs",
        read - start,
        stored - read,
        extra=about(job=chunks[0].job) if len(chunks) == 1 else about(jobs=[str(chunk.job) for chunk in chunks]),
    )
    notify_later(chunk.job for chunk in chunks)
    for chunk in chunks:
        if chunk.callback is not None:
            announce_job(runtime, chunk.job)
    return [
        {"digest": chunk.digest, "status": dict(vars(status))} for chunk, status in zip(chunks, statuses, strict=True)
    ]


def whole_chunk(job: Express, runtime: Runtime) -> Submission:
    """A job, its pictures read. Raises BadMessage."""
    id = check(job, runtime.settings.job_pictures)
    callbacks.check(job.callback, runtime.settings)
    return submission_of(job, id, runtime, seconds=PICTURES_SECONDS)


def embed_whole(
    runtime: Runtime, session: Session, towers: Sequence[Maintained], pixels: Any, made: Any
) -> tuple[dict[int, Any], Any] | None:
    """As `whole.Embed`. None where a tower has to be loaded first: that is done aside meanwhile."""
    if not all([runtime.towers.prepare(tower.id) for tower in towers]):
        return None
    vectors = {tower.id: runtime.towers.known_as(tower.id, tower.fingerprint)(pixels) for tower in towers}
    doubtful = np.zeros(len(pixels), np.bool_)
    for tower in towers:
        if tower.is_live and tower.gate is not None and made.any():
            gate = gating.GATES.known(session, tower.id, bytes.fromhex(tower.gate))
            if gate is not None:
                doubtful[made] = gate.doubts(pixels[made], vectors[tower.id][made])
    return vectors, doubtful


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
    return {"digest": kept.digest, "status": None}


def embed_all(leases: Sequence[Lease], runtime: Runtime) -> None:
    """Embed what stands in SQL already: what is not embedded here is tried again.

    Look-ups are answered here as well: where a tower has to be loaded first, which takes seconds, that is done aside.
    """
    try:
        # In the order of ids, in which a cancel locks a job's batches as well: no deadlock.
        embed_claimed(sorted(leases, key=lambda lease: lease.batch), runtime, loads=False)
    except Exception:
        log.exception("could not embed %d small jobs, which are accepted and tried again", len(leases))
