"""Take a chunk of pictures in: read each one, store what can be read, list what cannot, publish the batch."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any, NamedTuple

import numpy as np
from celery import Task
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.errors import first_line
from db.queue import pauses
from db.queue.failures import FailedItem
from db.queue.intake import Accepted, Item, Pictures, Submission, accept, accepted_as, items_before
from db.queue.leases import Lease
from db.states import JobKind
from tasks.announce import announce_job
from tasks.answering import refusal
from training.arrays import Uint8
from training.errors import PictureError
from training.pictures.glyphs import Outcome, are_set_like_mnist, set_or_refused
from training.pictures.sandbox import CHUNK_SECONDS, read_pictures
from twinvec_client.contract.limits import GLYPH_BYTES, MAX_CHUNK_ITEMS, holds_nul
from twinvec_client.contract.messages import ENCODED, GLYPH, BadMessage, Intake
from twinvec_client.contract.packing import unpack
from worker import callbacks, metrics
from worker.app import app
from worker.logs import about
from worker.notices import notify
from worker.outbox import publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

TIME_LIMIT = 300  # seconds that a chunk may take before its process is ended
MAX_MESSAGE_CHARS = 1000  # of a refusal; what is longer is cut


class LanePaused(Exception):
    """The lane `intake` is paused; by whom and why."""


class NotStored(Exception):
    """The database did not take a chunk: the message is what it said. The sender sends the chunk again."""


@app.task(
    name=Intake.task,
    bind=True,
    ignore_result=False,
    throws=(BadMessage, NotStored),
    time_limit=TIME_LIMIT,
    store_errors_even_if_ignored=True,  # a sender that did not wait may ask what became of the last chunk
)
def intake(self: Task[Any, Any], /, **payload: Any) -> dict[str, Any]:
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    try:
        return {"digest": accepted(payload, redelivered)}
    except (BadMessage, NotStored) as error:
        if self.request.ignore_result:
            raise
        return refusal("InvalidRequest" if isinstance(error, BadMessage) else "DatabaseUnavailable", str(error))


def accepted(payload: dict[str, Any], redelivered: bool) -> bytes:
    """Take a chunk in; the digest it is accepted with. Raises BadMessage, NotStored."""
    chunk = Intake.read(payload)
    try:
        return take_in(chunk, runtime(), redelivered=redelivered)
    except DBAPIError as error:
        log.error(
            "could not store chunk %s of job %s: %s",
            chunk.seq,
            chunk.job,
            first_line(error),
            extra=about(job=chunk.job),
        )
        raise NotStored(first_line(error)) from error


def take_in(chunk: Intake, runtime: Runtime, *, redelivered: bool = False) -> bytes:
    """Store a chunk, once, and publish its batch, unless that is held back; the digest of what was accepted under its
    number, now or before.

    Raises as `keep` does.
    """
    kept = keep(chunk, runtime, redelivered=redelivered)
    if kept.batch is not None and not kept.held:
        publish([(kept.batch, JobKind.EMBED)])
    return kept.digest


class Kept(NamedTuple):
    """What was accepted under a chunk's number, now or before, and the batch that is to be published, unless it is held
    back; or the lease of one that was claimed as it was stored."""

    digest: bytes
    batch: int | None
    lease: Lease | None = None
    held: bool = False


def keep(
    chunk: Intake,
    runtime: Runtime,
    *,
    redelivered: bool = False,
    seconds: float = CHUNK_SECONDS,
    claimed: bool = False,
) -> Kept:
    """Store a chunk, once. claimed: for this process to embed it, where it can be claimed. seconds: of the processor,
    for all its pictures.

    Raises BadMessage where it holds what a client never sends; nothing is stored then.
    """
    most = runtime.settings.job_pictures
    job = check(chunk, most)
    callbacks.check(chunk.callback, runtime.settings)
    if chunk.seq >= most // MAX_CHUNK_ITEMS:  # before, there cannot be too many
        before_it = runtime.transact(items_before, job, chunk.seq)
        if before_it + len(chunk.keys) > most:
            raise BadMessage(f"chunk {chunk.seq} comes after {before_it:,} pictures; at most {most:,} are taken a job")
    before = runtime.transact(accepted_as, job, chunk.seq) if chunk.resent or redelivered else None
    if before is not None:
        return Kept(before, None)
    submission = submission_of(chunk, job, runtime, seconds=seconds)
    decoded = time.perf_counter()
    accepted, lease = runtime.transact(accept_and_claim, submission, runtime if claimed else None)
    stored = time.perf_counter()
    decode = submission.seconds["decode"]
    count = len(submission.items)
    metrics.count_taken_in(count, accepted.unchanged, accepted.failed, decode=decode, store=stored - decoded)
    if lease is not None:
        metrics.count_claimed(lease)
    log.info(
        "took in chunk %d of job %s: %d pictures, %d refused, decoded in %.3f s, stored in %.3f s",
        chunk.seq,
        chunk.job,
        count,
        len(submission.failures),
        decode,
        stored - decoded,
        extra=about(job=chunk.job, chunk=chunk.seq, batch=accepted.batch),
    )
    notify([job])
    if accepted.batch is not None:
        return Kept(chunk.digest, accepted.batch, lease, accepted.held)
    if chunk.callback is not None:
        announce_job(runtime, job)
    return Kept(runtime.transact(accepted_as, job, chunk.seq) or b"", None)


def submission_of(chunk: Intake, job: uuid.UUID, runtime: Runtime, *, seconds: float = CHUNK_SECONDS) -> Submission:
    """What is to be stored of a chunk: its pictures, read. Raises BadMessage."""
    start = time.perf_counter()
    items, failures = read(chunk, seconds, runtime.settings.pictures_at_once())
    decoded = time.perf_counter()
    return Submission(
        job=job,
        seq=chunk.seq,
        collection=chunk.collection,
        items=items,
        failures=failures,
        digest=chunk.digest,
        total=chunk.total,
        priority=chunk.priority,
        first=chunk.first,
        callback=None if chunk.callback is None else chunk.callback.write(),
        seconds={"decode": decoded - start},
        kept_bytes=runtime.settings.job_failure_bytes,
    )


def accept_and_claim(
    session: Session, submission: Submission, claiming: Runtime | None
) -> tuple[Accepted, Lease | None]:
    """What was stored, and the lease of its batch where that was claimed at once.

    Raises LanePaused where it is to be claimed at once, and the lane `intake` is paused.
    """
    if claiming is None:
        return accept(session, submission, ends=True), None
    if (pause := pauses.of_lane(session, "intake")) is not None:
        raise LanePaused(pause.sentence())
    accepted = accept(session, submission)
    batch = accepted.batch
    return accepted, None if batch is None else claiming.claim_within(session, batch, JobKind.EMBED)


def check(chunk: Intake, most: int) -> uuid.UUID:
    """The job's id. Raises BadMessage where the job has more than the `most` pictures that a job may have."""
    if chunk.total is not None and chunk.total > most:
        raise BadMessage(f"chunk {chunk.seq} is of a job of {chunk.total:,} pictures; at most {most:,} are taken")
    if chunk.seq > most:
        raise BadMessage(f"chunk {chunk.seq} of a job of at most {most:,} pictures")
    return uuid.UUID(chunk.job)


def read(chunk: Intake, seconds: float = CHUNK_SECONDS, at_once: int = 1) -> tuple[Pictures, list[FailedItem]]:
    """A chunk's pictures as glyphs, in order, and those that cannot be read. A bad one costs only itself."""
    count = len(chunk.keys)
    labels, attributes = chunk.labels or [None] * count, attributes_of(chunk)
    sent = np.frombuffer(unpack(chunk.glyphs, chunk.item_types.count(GLYPH)), np.uint8).reshape(-1, GLYPH_BYTES)
    set_anew = glyphs_of(sent) if chunk.normalise else {}
    if len(sent) == count and not set_anew:  # as bulk work sends them: nothing is done picture by picture
        made = np.zeros(count, np.bool_)
        return Pictures(keys=chunk.keys, pixels=sent, labels=labels, attributes=attributes, made=made), []
    items: list[Item] = []
    failures: list[FailedItem] = []
    places = iter(range(len(sent)))
    outcomes = read_pictures(chunk.encoded, normalise=chunk.normalise, seconds=seconds, at_once=at_once)
    encoded, refused = iter(zip(chunk.encoded, outcomes, strict=True)), iter(chunk.refused)
    for key, item_type, label, extra in zip(chunk.keys, chunk.item_types, labels, attributes, strict=True):
        if item_type == GLYPH:
            place = next(places)
            pixels = sent[place].tobytes()
            glyph = set_anew.get(place, pixels)
            if isinstance(glyph, PictureError):
                failures.append(FailedItem(key, glyph.reason, str(glyph), pixels, True, label, extra))
            else:
                items.append(Item(key, glyph, label, extra, made=glyph != pixels))
        elif item_type == ENCODED:
            picture, outcome = next(encoded)
            if isinstance(outcome, PictureError):
                failures.append(FailedItem(key, outcome.reason, str(outcome), picture, False, label, extra))
            else:
                items.append(Item(key, outcome, label, extra, made=chunk.normalise))
        else:
            reason, message = next(refused)
            failures.append(FailedItem(key, reason, message[:MAX_MESSAGE_CHARS], None))
    return Pictures.of(items), failures


def attributes_of(chunk: Intake) -> list[dict[str, Any] | None]:
    if chunk.attributes is None:
        return [None] * len(chunk.keys)
    try:
        return [None if text is None else json_object(text) for text in chunk.attributes]
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessage(f"chunk {chunk.seq} has attributes that SQL cannot store: {error}") from error


def json_object(text: str) -> dict[str, Any]:
    """Raises ValueError where it is not an object, or SQL cannot store it: with NaN, NUL or half a character in it."""
    value = json.loads(text)
    stored = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if not isinstance(value, dict) or holds_nul(stored):
        raise ValueError(f"{text:.80}")
    stored.encode()  # refuses lone surrogates
    return value


def glyphs_of(sent: Uint8) -> dict[int, Outcome]:
    """(n, 784) -> by place, the glyph that an array becomes or why it becomes none, of those not set as MNIST's are."""
    others = np.flatnonzero(~are_set_like_mnist(sent)).tolist()
    return {place: set_or_refused(sent[place]) for place in others}
