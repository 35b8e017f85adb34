"""Accepting a chunk: job, digits, failures and batch in one transaction. It must not know files: pixels come here."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import locks
from db.bulk import copy_digits, fetch
from db.queue.abandon import reopen, takes
from db.queue.failures import KEPT_BYTES, FailedItem, LedgerReason, fail, record, waiting_for
from db.queue.retention import clear
from db.states import OPEN, BatchState, JobKind, TowerStatus
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
class Submission:
    """One chunk of a job. (job, seq) names it; `total` is the whole job's count and comes with its last chunk."""

    job: uuid.UUID
    seq: int
    collection: str
    items: list[Item]
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
    pictures were stored before. failed: reasons, one for each that failed; both are zero where nothing was stored."""

    batch: int | None = None
    unchanged: int = 0
    failed: Sequence[str] = ()


def accept(session: Session, chunk: Submission) -> Accepted:
    """Store a chunk, once.

    A chunk that was accepted before changes nothing. Neither does one that was cut from other pictures, sent under the
    same idempotency key: the job was begun with another first chunk, or this one is past its end, or the end that this
    one says is before a chunk that was accepted. A key that is stored already with the same pixels counts as
    `unchanged` if it has its vector; with other pixels the digit is replaced, and its vectors are deleted. Of a key
    that the job's stream repeats with other pixels the last ones are kept, in whatever order its chunks come, and the
    others are failures. A job that was abandoned goes on with a chunk that is new. No other transaction stores in the
    collection until this one ends.
    """
    job = _open_job(session, chunk)
    if _is_other(session, job, chunk):
        return Accepted()
    count = len(chunk.items) + len(chunk.failures)
    batch = session.execute(
        insert(Batch)
        .values(
            job=job.id,
            seq=chunk.seq,
            digits=[],
            digest=chunk.digest,
            items=count,
            state=BatchState.CANCELLED if job.cancelled_at else BatchState.DONE,
            dropped=count if job.cancelled_at else 0,
            finished_at=func.now(),
        )
        .on_conflict_do_nothing(index_elements=["job", "seq"])
        .returning(Batch.id)
    ).scalar()
    if batch is not None and chunk.total is not None:
        # One that is overtaken comes later; whether it has come is not asked then, but when it has not come for long.
        here = select(func.count(Batch.seq)).where(Batch.job == job.id).scalar_subquery()
        last = {"total": chunk.total, "chunks": chunk.seq + 1, "receiving": here <= chunk.seq if chunk.seq else False}
        session.execute(update(Job).where(Job.id == job.id).values(last))
    if batch is None or job.cancelled_at:
        return Accepted()
    stored = _store(session, chunk)
    due, failures = stored.due, chunk.failures + stored.duplicates
    record(session, job.id, failures, kept_bytes=chunk.kept_bytes)
    session.execute(
        update(Batch)
        .where(Batch.id == batch)
        .values(
            digits=due,
            unchanged=stored.unchanged,
            unchanged_digits=stored.kept,
            failed=len(failures),
            seconds=chunk.seconds,
            **({"state": BatchState.QUEUED, "finished_at": None, "published_at": func.now()} if due else {}),
        )
    )
    return Accepted(batch if due else None, stored.unchanged, [failure.reason for failure in failures])


def _open_job(session: Session, chunk: Submission) -> Job:
    last = chunk.total is not None
    opened = (
        insert(Job)
        .values(
            id=chunk.job,
            kind=JobKind.EMBED,
            collection=chunk.collection,
            parameters=parameters_of(chunk),
            callback=chunk.callback,
            receiving=chunk.seq > 0 or not last,
        )
        .on_conflict_do_nothing()
    )
    # Shared: chunks go in side by side, and a cancel waits for them. The last one, which changes the row, does not
    # share: of two that held it shared and wanted to write, each would wait for the other.
    query = (
        select(Job)
        .where(Job.id == chunk.job, Job.pruned_at.is_(None), takes(chunk.seq))
        .with_for_update(read=not last, key_share=last)
    )
    while True:
        session.execute(opened)
        if (job := session.execute(query).scalar()) is not None:
            return job
        # An ended job of this id was pruned between the two, or is just being: this chunk opens a new one.
        # Or it was abandoned.
        clear(session, chunk.job)
        reopen(session, chunk.job)


def parameters_of(chunk: Submission) -> dict[str, Any]:
    """What a job is opened with: its first chunk's digest, and its priority where that is not 1."""
    first = {} if chunk.first is None else {"first": chunk.first.hex()}
    return first if chunk.priority == 1 else {**first, "priority": chunk.priority}


def _is_other(session: Session, job: Job, chunk: Submission) -> bool:
    """Whether a chunk is not of the pictures that a job was begun with."""
    if job.collection != chunk.collection or (job.chunks is not None and chunk.seq >= job.chunks):
        return True
    begun = _begun_with(job.parameters)
    if None not in (begun, chunk.first) and begun != chunk.first:
        return True
    beyond = exists(select(Batch.id).where(Batch.job == job.id, Batch.seq > chunk.seq))
    return chunk.total is not None and bool(session.execute(select(beyond)).scalar_one())


def _begun_with(parameters: dict[str, Any]) -> bytes | None:
    first = parameters.get("first")
    return None if first is None else bytes.fromhex(first)


class _Stored(NamedTuple):
    """What became of a chunk's items."""

    due: list[int]  # ids that are to be embedded
    unchanged: int  # how many items
    duplicates: list[FailedItem]
    kept: list[int] | None  # ids that were stored with these pixels


@dataclass(slots=True)
class _Plan:
    """What to do with each item of a chunk."""

    new: dict[str, tuple[Item, bytes]] = field(default_factory=dict)  # with the SHA-256 of the pixels
    kept: list[int] = field(default_factory=list)  # stored with these pixels, by digit id
    replaced: list[Any] = field(default_factory=list)  # rows of digits that are stored with other pixels
    changed: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[FailedItem] = field(default_factory=list)


def _store(session: Session, chunk: Submission) -> _Stored:
    if not chunk.items:
        return _Stored([], 0, [], None)
    locks.change_keys(session, chunk.collection)
    stored = {
        row.key: row
        for row in session.execute(
            select(Digit.id, Digit.key, Digit.sha256, Digit.job, Digit.seq, Digit.label, Digit.attributes)
            .where(
                Digit.collection == chunk.collection,
                Digit.key == func.any([item.key for item in chunk.items]),
            )
            .order_by(Digit.id)
            .with_for_update()
        )
    }
    plan = _plan(chunk, stored, _sent_later(session, chunk, list(stored.values())))
    live = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    embedded = embedded_among(session, live, plan.kept) if live is not None and plan.kept else set()
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
    ids = _append(session, chunk, plan.new)
    due = ids + [id for id in plan.kept if id not in embedded]
    return _Stored(due, len(chunk.items) - len(plan.duplicates) - len(due), plan.duplicates, plan.kept or None)


def _sent_later(session: Session, chunk: Submission, stored: Sequence[Any]) -> set[int]:
    """Which of these digits came with a later chunk of the same job, which was faster than this one."""
    later = {row.id for row in stored if row.job == chunk.job and row.seq is not None and row.seq > chunk.seq}
    overtook = (Batch.job == chunk.job, Batch.seq > chunk.seq, Batch.unchanged_digits.isnot(None))
    if session.execute(select(exists(select(Batch.id).where(*overtook)))).scalar_one():
        kept = select(func.unnest(Batch.unchanged_digits).label("digit")).where(*overtook).subquery()
        among = kept.c.digit == func.any([row.id for row in stored])
        later.update(session.execute(select(kept.c.digit).where(among)).scalars())
    return later


def _plan(chunk: Submission, stored: dict[str, Any], later: set[int]) -> _Plan:
    """later: ids of the stored digits that came with a later chunk of this job."""
    plan = _Plan()
    last = {item.key: item for item in chunk.items}
    for item in chunk.items:
        if item is not last[item.key]:
            if item.pixels != last[item.key].pixels:
                plan.duplicates.append(_duplicate(item))
            continue
        digest, row = hashlib.sha256(item.pixels).digest(), stored.get(item.key)
        if row is None:
            plan.new[item.key] = item, digest
        elif row.sha256 == digest:
            plan.kept.append(row.id)
            if row.id not in later and (change := _change(item, row)) is not None:
                plan.changed.append(change)
        elif row.id in later:
            plan.duplicates.append(_duplicate(item))
        else:
            plan.replaced.append(row)
            plan.new[item.key] = item, digest
    return plan


_CAME_AGAIN = "this key came again later in the same job, with other pixels: the last one is kept"


def _duplicate(item: Item) -> FailedItem:
    return FailedItem(item.key, "duplicate_key", _CAME_AGAIN, item.pixels, True, item.label, item.attributes)


def _change(item: Item, row: Any) -> dict[str, Any] | None:
    """What gives a stored digit its new label and attributes, and whether the label is another; None if neither is."""
    label = row.label if item.label is None else item.label
    attributes = row.attributes if item.attributes is None else item.attributes
    if (label, attributes) == (row.label, row.attributes):
        return None
    return {"id": row.id, "label": label, "attributes": attributes, "relabelled": label != row.label}


def _append(session: Session, chunk: Submission, new: dict[str, tuple[Item, bytes]]) -> list[int]:
    if not new:
        return []
    query = "SELECT array_agg(nextval('digits_id_seq')) FROM generate_series(1, %s)"
    ids: list[int] = fetch(session, query, [len(new)])[0][0]
    rows: Iterable[tuple[Any, ...]] = (
        (
            id,
            item.key,
            chunk.collection,
            item.pixels,
            digest,
            item.label,
            None if item.attributes is None else Jsonb(item.attributes),
            chunk.job,
        )
        for id, (item, digest) in zip(ids, new.values(), strict=True)
    )
    made = any(item.made for item, _ in new.values())
    if made:  # what was is asked about once it has its vector
        rows = ((*row, False if item.made else None) for row, (item, _) in zip(rows, new.values(), strict=True))
    copy_digits(session, rows, doubtful=made, seq=chunk.seq)
    return ids


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


def begun_with(session: Session, job: uuid.UUID) -> bytes | None:
    """The digest of the first chunk of what a job was begun with; None where that is not known."""
    query = select(Job.parameters).where(Job.id == job, Job.kind == JobKind.EMBED, Job.pruned_at.is_(None))
    return _begun_with(session.execute(query).scalar() or {})


def items_before(session: Session, job: uuid.UUID, seq: int) -> int:
    """How many pictures a job's accepted chunks of a lower number have."""
    query = select(func.coalesce(func.sum(Batch.items), 0)).join(Job).where(Batch.job == job, Batch.seq < seq)
    return int(session.execute(query.where(Job.pruned_at.is_(None))).scalar_one())


def receipts(session: Session, job: uuid.UUID, *, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
    """(seq, digest) of a job's accepted chunks after `after`."""
    query = (
        select(Batch.seq, Batch.digest).join(Job).where(Batch.job == job, Batch.seq > after, Job.pruned_at.is_(None))
    )
    return [(row.seq, row.digest) for row in session.execute(query.order_by(Batch.seq).limit(limit))]


def backlog(session: Session) -> int:
    """How many digits callers have sent that are not embedded yet."""
    query = (
        select(func.coalesce(func.sum(Batch.size), 0))
        .join(Job, Job.id == Batch.job)
        .where(Batch.state.in_(OPEN), Job.kind == JobKind.EMBED)
    )
    return int(session.execute(query).scalar_one())
