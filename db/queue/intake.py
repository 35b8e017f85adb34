"""Accepting a chunk: job, digits, failures and batch in one transaction. It must not know files: pixels come here."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from db import locks
from db.bulk import NewDigits, Query, Texts, as_array, copy_digits, fetch, fetch_each
from db.digits import PIXELS
from db.queue.abandon import TAKES, reopen
from db.queue.failures import KEPT_BYTES, FailedItem, LedgerReason, fail, record, waiting_for
from db.queue.pauses import NOT_HELD
from db.queue.retention import clear
from db.states import BatchState, TowerStatus
from db.tables import Batch, Digit, Job, Tower
from db.vectors import embeddings
from db.vectors.embeddings import embedded_among


class Item(NamedTuple):
    """A picture that was read. pixels: 784 bytes, 28x28 uint8. made: from something else than these pixels."""

    key: str
    pixels: bytes
    label: int | None = None
    attributes: dict[str, Any] | None = None
    made: bool = False


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures that were read, by column, in their order.

    pixels: (n, 784) uint8, 28x28 each. made: (n,) bool, those that were made of something else than these pixels.
    """

    keys: Sequence[str]
    pixels: np.ndarray[Any, Any]
    labels: Sequence[int | None]
    attributes: Sequence[dict[str, Any] | None]
    made: np.ndarray[Any, Any]

    @classmethod
    def of(cls, items: Sequence[Item]) -> Pictures:
        return cls(
            keys=[item.key for item in items],
            pixels=np.frombuffer(b"".join([item.pixels for item in items]), np.uint8).reshape(-1, PIXELS),
            labels=[item.label for item in items],
            attributes=[item.attributes for item in items],
            made=np.fromiter((item.made for item in items), np.bool_, len(items)),
        )

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One chunk of a job. (job, seq) names it; `total` is the whole job's count and comes with its last chunk."""

    job: uuid.UUID
    seq: int
    collection: str
    items: Pictures
    failures: list[FailedItem] = field(default_factory=list)
    digest: bytes
    total: int | None
    priority: int = 1
    first: bytes | None = None  # the digest of the job's first chunk; None: of a version before
    callback: dict[str, Any] | None = None  # the caller's task to call when the job ends: {"task", "queue"}
    seconds: dict[str, float] = field(default_factory=dict)  # spent so far, by stage
    kept_bytes: int = KEPT_BYTES  # of pictures that one job's failures keep, about


class Accepted(NamedTuple):
    """What storing a chunk did. batch: its id, or None where nothing is to be embedded. unchanged: how many of its
    pictures were stored before. failed: reasons, one for each that failed; both are zero where nothing was stored.
    held: whether a pause holds the batch back."""

    batch: int | None = None
    unchanged: int = 0
    failed: Sequence[str] = ()
    held: bool = False


def accept(session: Session, chunk: Submission, *, ends: bool = False) -> Accepted:
    """Store a chunk, once.

    A chunk that was accepted before changes nothing. Neither does one that was cut from other pictures, sent under the
    same idempotency key: the job was begun with another first chunk, or this one is past its end, or the end that this
    one says is before a chunk that was accepted. A key that is stored already with the same pixels counts as
    `unchanged` if it has its vector; with other pixels the digit is replaced, and its vectors are deleted. Of a key
    that the job's stream repeats with other pixels the last ones are kept, in whatever order its chunks come, and the
    others are failures. A job that was abandoned goes on with a chunk that is new. No other transaction stores in the
    collection until this one ends.

    ends: whether the transaction may be committed with the last statement, since nothing of it follows.
    """
    digests = digests_of(chunk.items.pixels)  # before anything is locked
    opened = _open(session, chunk)
    if opened.batch is not None and chunk.total is not None:
        # One that is overtaken comes later; whether it has come is not asked then, but when it has not come for long.
        here = select(func.count(Batch.seq)).where(Batch.job == chunk.job).scalar_subquery()
        last = {"total": chunk.total, "chunks": chunk.seq + 1, "receiving": here <= chunk.seq if chunk.seq else False}
        session.execute(update(Job).where(Job.id == chunk.job).values(last))
    if opened.batch is None or opened.cancelled:
        return Accepted()
    stored = _store(session, chunk, opened, digests)
    due, failures = stored.due, chunk.failures + stored.duplicates
    record(session, chunk.job, failures, kept_bytes=chunk.kept_bytes)
    closing = _closing(opened.batch, stored, len(failures), chunk.seconds)
    if stored.new is None:
        fetch_each(session, [closing], ends=ends)
    else:
        copy_digits(session, stored.new, seq=chunk.seq, then=[closing], ends=ends)
    reasons = [failure.reason for failure in failures]
    return Accepted(opened.batch if due else None, stored.unchanged, reasons, opened.held)


class _Opened(NamedTuple):
    """What a chunk finds. batch: its own, as it was inserted; None where it changes nothing. cancelled: whether its job
    is. held: whether a pause would hold the batch back. stored: digits that are stored under its keys, which are locked
    from now on. ids: as many as it has items. overtaken: whether a later chunk of its job has found digits stored as it
    brought them."""

    batch: int | None
    cancelled: bool = False
    held: bool = False
    stored: Sequence[_StoredDigit] = ()
    ids: Sequence[int] = ()
    overtaken: bool = False


def _open(session: Session, chunk: Submission) -> _Opened:
    """Open the job and the batch, lock the keys and look them up: all at once, since whoever stores in the collection
    waits from then on, and a database may be far away."""
    last = chunk.total is not None
    first = None if chunk.first is None else chunk.first.hex()
    callback = None if chunk.callback is None else json.dumps(chunk.callback)
    count = len(chunk.items) + len(chunk.failures)
    job = (chunk.job, chunk.collection, json.dumps(parameters_of(chunk)), callback, chunk.seq > 0 or not last)
    takes = (chunk.job, chunk.seq, chunk.seq)
    agrees = (chunk.collection, chunk.seq, first, last, chunk.seq)
    asked: list[Query] = [
        (_OPEN_JOB, job),
        # Shared: chunks go in side by side, and a cancel waits for them. The last one, which changes the row, does not
        # share: of two that held it shared and wanted to write, each would wait for the other.
        (f"{_JOB} FOR {'NO KEY UPDATE' if last else 'SHARE'}", takes),
        (_OPEN_BATCH, (chunk.seq, chunk.digest, count, count, *takes, *agrees)),
    ]
    if len(chunk.items):
        asked += [
            locks.changing_keys(chunk.collection),
            (_STORED, (chunk.collection, Texts.of(chunk.items.keys))),
            (_DRAWN, (len(chunk.items),)),
            (_OVERTAKEN, (chunk.job, chunk.seq)),
        ]
    while True:
        _, found, batches, *keys = fetch_each(session, asked)
        if found:
            break
        # An ended job of this id was pruned between the two, or is just being: this chunk opens a new one.
        # Or it was abandoned.
        clear(session, chunk.job)
        reopen(session, chunk.job)
    if not batches:
        return _Opened(None)
    ((batch, held),), ((cancelled,),) = batches, found
    if not keys:
        return _Opened(batch, cancelled, held)
    _, stored, ((ids,),), ((overtaken,),) = keys
    return _Opened(batch, cancelled, held, [_StoredDigit(*row) for row in stored], ids, overtaken)


_OPEN_JOB = """
    INSERT INTO jobs (id, kind, collection, parameters, callback, receiving)
    VALUES (%s, 'embed', %s, %s::jsonb, %s::jsonb, %s) ON CONFLICT DO NOTHING
"""
_TAKING = f"FROM jobs WHERE id = %s AND pruned_at IS NULL AND {TAKES}"
_JOB = f"SELECT cancelled_at IS NOT NULL {_TAKING}"
# Unless it is not of the pictures that the job was begun with. In a cancelled job it is noted, and nothing is stored.
_OPEN_BATCH = f"""
    INSERT INTO batches (job, seq, digits, digest, items, state, dropped, finished_at)
    SELECT id, %s, '{{}}', %s, %s, CASE WHEN cancelled_at IS NULL THEN 'done' ELSE 'cancelled' END,
        CASE WHEN cancelled_at IS NULL THEN 0 ELSE %s END, now()
    {_TAKING} AND collection = %s AND coalesce(chunks > %s, true) AND coalesce(parameters ->> 'first' = %s, true)
        AND NOT (%s AND EXISTS (SELECT FROM batches AS later WHERE later.job = jobs.id AND later.seq > %s))
    ON CONFLICT (job, seq) DO NOTHING
    RETURNING id, (SELECT NOT ({NOT_HELD}) FROM jobs WHERE jobs.id = batches.job)
"""


def _closing(batch: int, stored: _Stored, failed: int, seconds: dict[str, float]) -> Query:
    """The statement that notes in a batch what became of its chunk."""
    queued = "state = 'queued', finished_at = NULL, published_at = now()," if stored.due else ""
    statement = f"""
        UPDATE batches SET {queued} digits = %s::bigint[], unchanged = %s, unchanged_digits = %s::bigint[], failed = %s,
            seconds = %s::jsonb
        WHERE id = %s
    """
    kept = None if stored.kept is None else as_array(stored.kept)
    return statement, (as_array(stored.due), stored.unchanged, kept, failed, json.dumps(seconds), batch)


def parameters_of(chunk: Submission) -> dict[str, Any]:
    """What a job is opened with: its first chunk's digest, and its priority where that is not 1."""
    first = {} if chunk.first is None else {"first": chunk.first.hex()}
    return first if chunk.priority == 1 else {**first, "priority": chunk.priority}


class _Stored(NamedTuple):
    """What became of a chunk's items."""

    due: list[int]  # ids that are to be embedded
    unchanged: int  # how many items
    duplicates: list[FailedItem]
    kept: list[int] | None  # ids that were stored with these pixels
    new: NewDigits | None  # rows that are still to be appended


@dataclass(slots=True)
class _Plan:
    """What to do with each item of a chunk."""

    new: list[int] = field(default_factory=list)  # places in the chunk
    kept: list[int] = field(default_factory=list)  # stored with these pixels, by digit id
    replaced: list[Any] = field(default_factory=list)  # rows of digits that are stored with other pixels
    changed: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[FailedItem] = field(default_factory=list)


def _store(session: Session, chunk: Submission, opened: _Opened, digests: np.ndarray[Any, Any]) -> _Stored:
    """Replace and change what is stored, and say what is to be appended."""
    stored = {digit.key: digit for digit in opened.stored}
    later = _sent_later(session, chunk, opened.stored, overtaken=opened.overtaken)
    plan = _plan(chunk, digests, stored, later)
    embedded = _embedded(session, plan.kept) if plan.kept else set()
    if plan.replaced:
        _supersede(session, chunk, plan.replaced)
    if plan.changed:
        labels = {change["id"]: change["label"] for change in plan.changed if change["relabelled"]}
        if labels:
            locks.remove_digits(session)  # else a vector may be written beside it, with the old label
        columns = ("id", "label", "attributes")
        session.execute(update(Digit), [{name: change[name] for name in columns} for change in plan.changed])
        if labels:
            embeddings.relabel(session, labels)
    ids = list(opened.ids[: len(plan.new)])
    due = ids + [id for id in plan.kept if id not in embedded]
    unchanged = len(chunk.items) - len(plan.duplicates) - len(due)
    return _Stored(due, unchanged, plan.duplicates, plan.kept or None, _new(chunk, ids, plan.new, digests))


class _StoredDigit(NamedTuple):
    """A digit that is stored under a key of the chunk; its row is locked."""

    id: int
    key: str
    sha256: bytes
    job: uuid.UUID
    seq: int | None
    label: int | None
    attributes: dict[str, Any] | None


_STORED = """
    SELECT id, key, sha256, job, seq, label, attributes FROM digits
    WHERE collection = %s AND key = ANY(%b::text[]) ORDER BY id FOR UPDATE
"""
_DRAWN = "SELECT array_agg(nextval('digits_id_seq')) FROM generate_series(1, %s)"
_OVERTAKEN = "SELECT EXISTS (SELECT FROM batches WHERE job = %s AND seq > %s AND unchanged_digits IS NOT NULL)"


def _embedded(session: Session, digits: Sequence[int]) -> set[int]:
    """Which of these have their vector."""
    live = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    return set() if live is None else embedded_among(session, live, digits)


def _sent_later(session: Session, chunk: Submission, stored: Sequence[_StoredDigit], *, overtaken: bool) -> set[int]:
    """Which of these digits came with a later chunk of the same job, which was faster than this one.

    overtaken: whether a later one has found digits stored as it brought them.
    """
    later = {row.id for row in stored if row.job == chunk.job and row.seq is not None and row.seq > chunk.seq}
    if overtaken:
        overtook = (Batch.job == chunk.job, Batch.seq > chunk.seq, Batch.unchanged_digits.isnot(None))
        kept = select(func.unnest(Batch.unchanged_digits).label("digit")).where(*overtook).subquery()
        among = kept.c.digit == func.any([row.id for row in stored])
        later.update(session.execute(select(kept.c.digit).where(among)).scalars())
    return later


def digests_of(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n, 784) uint8 -> the SHA-256 of each, (n, 32) uint8."""
    if not len(pixels):
        return np.empty((0, 32), np.uint8)
    size, held = pixels.shape[1], np.ascontiguousarray(pixels).data.cast("B")
    found = [hashlib.sha256(held[at : at + size]).digest() for at in range(0, len(held), size)]
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(pixels), -1)


def _plan(chunk: Submission, digests: np.ndarray[Any, Any], stored: dict[str, Any], later: set[int]) -> _Plan:
    """later: ids of the stored digits that came with a later chunk of this job."""
    plan, items = _Plan(), chunk.items
    if not stored and len(set(items.keys)) == len(items):  # as a rule
        plan.new = list(range(len(items)))
        return plan
    last = {key: place for place, key in enumerate(items.keys)}
    for place, key in enumerate(items.keys):
        if place != last[key]:
            if not np.array_equal(items.pixels[place], items.pixels[last[key]]):
                plan.duplicates.append(_duplicate(items, place))
            continue
        row = stored.get(key)
        if row is None:
            plan.new.append(place)
        elif row.sha256 == digests[place].tobytes():
            plan.kept.append(row.id)
            if row.id not in later and (change := _change(items, place, row)) is not None:
                plan.changed.append(change)
        elif row.id in later:
            plan.duplicates.append(_duplicate(items, place))
        else:
            plan.replaced.append(row)
            plan.new.append(place)
    return plan


_CAME_AGAIN = "this key came again later in the same job, with other pixels: the last one is kept"


def _duplicate(items: Pictures, place: int) -> FailedItem:
    pixels = items.pixels[place].tobytes()
    label, attributes = items.labels[place], items.attributes[place]
    return FailedItem(items.keys[place], "duplicate_key", _CAME_AGAIN, pixels, True, label, attributes)


def _change(items: Pictures, place: int, row: Any) -> dict[str, Any] | None:
    """What gives a stored digit its new label and attributes, and whether the label is another; None if neither is."""
    label = row.label if items.labels[place] is None else items.labels[place]
    attributes = row.attributes if items.attributes[place] is None else items.attributes[place]
    if (label, attributes) == (row.label, row.attributes):
        return None
    return {"id": row.id, "label": label, "attributes": attributes, "relabelled": label != row.label}


def _new(chunk: Submission, ids: Sequence[int], new: Sequence[int], digests: np.ndarray[Any, Any]) -> NewDigits | None:
    """The rows of those at these places of a chunk, under as many ids; None where there are none."""
    if not new:
        return None
    items = chunk.items
    all_new = len(new) == len(items)
    places = slice(None) if all_new else list(new)
    return NewDigits(
        np.array(ids, np.int64),
        items.keys if all_new else [items.keys[place] for place in new],
        [chunk.collection] * len(new),
        items.pixels[places],
        digests[places],
        np.frombuffer(chunk.job.bytes, np.uint8),
        items.labels if all_new else [items.labels[place] for place in new],
        items.attributes if all_new else [items.attributes[place] for place in new],
        items.made[places],  # asked about once they have their vectors
    )


def _supersede(session: Session, chunk: Submission, rows: Sequence[Any]) -> None:
    """Delete digits whose row locks are held, and their vectors: a chunk brings other pixels under their keys.

    Every job that still waits for such a vector gets a failure, which keeps the pixels as far as `record` does; so does
    the chunk's own job where it brought them itself.
    """
    ids = [row.id for row in rows]
    locks.remove_digits(session)
    message = f"other pixels came under this key, with job {chunk.job}, before these were embedded"
    for job, lost in sorted(waiting_for(session, ids).items()):
        why: tuple[LedgerReason, str] = ("superseded", message)
        if job == chunk.job:
            why = ("duplicate_key", _CAME_AGAIN)
        fail(session, job, lost, *why, kept_bytes=chunk.kept_bytes)
    if own := [row for row in rows if row.job == chunk.job]:
        _take_back(session, chunk, own)
    embeddings.delete_vectors(session, ids)
    session.execute(delete(Digit).where(Digit.id == func.any(ids)))


def _take_back(session: Session, chunk: Submission, rows: Sequence[Any]) -> None:
    """Count digits as failures that the chunk's job has brought and embedded before."""
    listed = select(Batch.id, func.unnest(Batch.digits).label("digit")).where(
        Batch.job == chunk.job,
        Batch.state == BatchState.DONE,
        or_(Batch.seq.is_(None), Batch.seq == func.any([row.seq for row in rows])),
    )
    found = listed.subquery()
    query = select(found.c.id, found.c.digit).where(found.c.digit == func.any([row.id for row in rows]))
    embedded = session.execute(query.order_by(found.c.id)).all()
    for batch, count in Counter(row.id for row in embedded).items():
        changed = {Batch.embedded: Batch.embedded - count, Batch.failed: Batch.failed + count}
        session.execute(update(Batch).where(Batch.id == batch).values(changed))
    ids = [row.digit for row in embedded]
    fail(session, chunk.job, ids, "duplicate_key", _CAME_AGAIN, kept_bytes=chunk.kept_bytes)


def accepted_as(session: Session, job: uuid.UUID, seq: int) -> bytes | None:
    """The digest of the chunk that was accepted under this number; None where none was."""
    query = select(Batch.digest).join(Job).where(Batch.job == job, Batch.seq == seq, Job.pruned_at.is_(None))
    return session.execute(query).scalar()


def items_before(session: Session, job: uuid.UUID, seq: int) -> int:
    """How many pictures a job's accepted chunks of a lower number have."""
    query = select(func.coalesce(func.sum(Batch.items), 0)).join(Job).where(Batch.job == job, Batch.seq < seq)
    return int(session.execute(query.where(Job.pruned_at.is_(None))).scalar_one())


class Received(NamedTuple):
    """What was accepted of a job. chunks: (seq, digest) of each, after the one that was named. first: the digest of the
    first chunk of what it was begun with; None where that is not known. backlog: as `backlog` gives it. is_paused:
    whether the lane `intake` is."""

    chunks: list[tuple[int, bytes]]
    first: bytes | None
    backlog: int
    is_paused: bool


def received(session: Session, job: uuid.UUID, *, after: int, limit: int = 1000) -> Received:
    """What was accepted of a job, after a chunk: asked at once, and the transaction ends with it."""
    asked = [(_RECEIPTS, (job, after, limit)), (_BEGUN_WITH, (job,)), (_BACKLOG, ()), (_PAUSED, ())]
    chunks, begun, ((waiting,),), ((is_paused,),) = fetch_each(session, asked, ends=True)
    first = begun[0][0] if begun else None
    return Received([(seq, digest) for seq, digest in chunks], first and bytes.fromhex(first), waiting, is_paused)


def backlog(session: Session) -> int:
    """How many digits callers have sent that are not embedded yet."""
    ((waiting,),) = fetch(session, _BACKLOG)
    return int(waiting)


_RECEIPTS = """
    SELECT seq, digest FROM batches JOIN jobs ON jobs.id = batches.job
    WHERE batches.job = %s AND seq > %s AND pruned_at IS NULL ORDER BY seq LIMIT %s
"""
_BEGUN_WITH = "SELECT parameters ->> 'first' FROM jobs WHERE id = %s AND kind = 'embed' AND pruned_at IS NULL"
_BACKLOG = """
    SELECT coalesce(sum(size), 0)::bigint FROM batches JOIN jobs ON jobs.id = batches.job
    WHERE state IN ('queued', 'leased') AND kind = 'embed'
"""
_PAUSED = "SELECT EXISTS (SELECT FROM lane_pauses WHERE lane = 'intake' AND resumed_at IS NULL)"
