"""Small jobs stored whole: the job, its digits, their vectors and a batch that is done, for several jobs at once and in
one transaction. It must not know models.

It is for what is plain: jobs that are new, and so are their keys, while nothing is paused. All else is accepted as
any chunk is, and embedded as any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import locks
from db.bulk import copy_digits, fetch
from db.queue.intake import Item, Submission, parameters_of
from db.queue.jobs import JobStatus
from db.states import BatchState, JobKind, JobState
from db.tables import Tower
from db.vectors import embeddings
from db.vectors.filters import NO_LABEL, Described, collection_hash
from db.vectors.towers import is_maintained

Array = np.ndarray[Any, Any]
# The session, ids of towers, (n, 784) uint8, (n,) bool: what was made of something else -> (n, 128) float32 by tower,
# and (n,) bool: which of those look like no digit. None where a tower is not at hand.
Embed = Callable[[Session, Sequence[int], Array, Array], tuple[dict[int, Array], Array] | None]

_OPEN_JOBS = """
    INSERT INTO jobs (id, kind, collection, total, chunks, receiving, parameters, callback)
    SELECT id, %s, collection, total, 1, false, parameters, callback
    FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::jsonb[], %s::jsonb[])
        AS new (id, collection, total, parameters, callback)
    ON CONFLICT DO NOTHING RETURNING id, created_at
"""
_BATCH = "(%s, 0, %s::bigint[], %s, %s, %s, %s, 1, %s, now(), clock_timestamp(), %s)"
_CLOSE_BATCHES = """
    INSERT INTO batches (
        job, seq, digits, digest, items, embedded, state, attempt, worker, published_at, finished_at, seconds
    ) VALUES {} RETURNING job, extract(epoch FROM finished_at - created_at)::float8
"""
_PAUSED = "SELECT FROM lane_pauses WHERE lane IN ('intake', 'embed') AND resumed_at IS NULL LIMIT 1"
_STORED = "SELECT FROM digits WHERE key = ANY(%s::text[]) AND collection = ANY(%s::text[]) LIMIT 1"


class NotPlain(Exception):
    """Nothing was stored: each of the jobs is accepted as any other is."""


def store_whole(session: Session, chunks: Sequence[Submission], embed: Embed, *, worker: str) -> list[JobStatus]:
    """Store jobs that are one chunk each, with their vectors under every tower that is maintained; how each ended.

    Raises NotPlain, BadVectors, and what `embed` raises.
    """
    if any(chunk.failures or not chunk.items for chunk in chunks):
        raise NotPlain
    items = [(chunk, item) for chunk in chunks for item in chunk.items]
    if len({(chunk.collection, item.key) for chunk, item in items}) < len(items):
        raise NotPlain
    locks.hold_towers(session)  # before any row, as `finish` does
    towers = session.execute(select(Tower.id).where(is_maintained()).order_by(Tower.id)).scalars().all()
    if not towers or fetch(session, _PAUSED):
        raise NotPlain
    opened = _open(session, chunks)
    collections = sorted({chunk.collection for chunk in chunks})
    for collection in collections:
        locks.change_keys(session, collection)
    if fetch(session, _STORED, ([item.key for _, item in items], collections)):
        raise NotPlain
    pixels = np.frombuffer(b"".join(item.pixels for _, item in items), np.uint8).reshape(len(items), -1)
    made = np.fromiter((item.made for _, item in items), np.bool_, len(items))
    computed = embed(session, towers, pixels, made)
    if computed is None:
        raise NotPlain
    vectors, doubtful = computed
    ids = _append(session, items, doubtful)
    _write(session, ids, items, vectors)
    return _close(session, chunks, ids, opened, doubtful, worker)


def _open(session: Session, chunks: Sequence[Submission]) -> dict[Any, Any]:
    """When each job was opened, by its id. Raises NotPlain where one is there already."""
    new = sorted(chunks, key=lambda chunk: chunk.job)  # always in this order: two that bring the same wait, no more
    rows = fetch(
        session,
        _OPEN_JOBS,
        (
            JobKind.EMBED,
            [chunk.job for chunk in new],
            [chunk.collection for chunk in new],
            [chunk.total for chunk in new],
            [Jsonb(parameters_of(chunk)) for chunk in new],
            [None if chunk.callback is None else Jsonb(chunk.callback) for chunk in new],
        ),
    )
    if len(rows) < len(new):
        raise NotPlain
    return dict(rows)


def _append(session: Session, items: Sequence[tuple[Submission, Item]], doubtful: Array) -> list[int]:
    query = "SELECT array_agg(nextval('digits_id_seq')) FROM generate_series(1, %s)"
    ids: list[int] = sorted(fetch(session, query, [len(items)])[0][0])
    copy_digits(
        session,
        (
            (
                id,
                item.key,
                chunk.collection,
                item.pixels,
                hashlib.sha256(item.pixels).digest(),
                item.label,
                None if item.attributes is None else Jsonb(item.attributes),
                chunk.job,
                looks_like_none if item.made else None,
            )
            for id, (chunk, item), looks_like_none in zip(ids, items, doubtful.tolist(), strict=True)
        ),
        doubtful=True,
        seq=0,
    )
    return ids


def _write(
    session: Session, ids: Sequence[int], items: Sequence[tuple[Submission, Item]], vectors: dict[int, Array]
) -> None:
    digits = np.asarray(ids, np.int64)
    labels = (NO_LABEL if item.label is None else item.label for _, item in items)
    hashes = (collection_hash(chunk.collection) for chunk, _ in items)
    count = len(items)
    stored = Described(digits, np.fromiter(labels, np.int32, count), np.fromiter(hashes, np.int32, count))
    locks.hold_digits(session)
    for tower, rows in vectors.items():
        embeddings.check(tower, digits, rows)
        embeddings.write(session, tower, stored, rows)


def _close(
    session: Session,
    chunks: Sequence[Submission],
    ids: Sequence[int],
    opened: dict[Any, Any],
    doubtful: Array,
    worker: str,
) -> list[JobStatus]:
    """Write the batches; the status of each job, as `jobs.status` would give it."""
    values: list[Any] = []
    starts = np.cumsum([0, *(len(chunk.items) for chunk in chunks)]).tolist()
    for chunk, start in zip(chunks, starts, strict=False):
        count = len(chunk.items)
        own = ids[start : start + count]
        seconds = Jsonb({"wait": 0.0, **chunk.seconds})
        values += [chunk.job, list(own), chunk.digest, count, count, BatchState.DONE, worker, seconds]
    took = dict(fetch(session, _CLOSE_BATCHES.format(", ".join([_BATCH] * len(chunks))), values))
    return [
        JobStatus(
            id=str(chunk.job),
            kind=JobKind.EMBED,
            collection=chunk.collection,
            state=JobState.FINISHED,
            total=chunk.total,
            accepted=len(chunk.items),
            succeeded=len(chunk.items),
            unchanged=0,
            failed=0,
            cancelled=0,
            created_at=opened[chunk.job].isoformat(),
            seconds=took[chunk.job],
            message=None,
            progress=None,
            outcome=None,
            doubtful=int(doubtful[start : start + len(chunk.items)].sum()),
        )
        for chunk, start in zip(chunks, starts, strict=False)
    ]
