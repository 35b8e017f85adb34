"""Small jobs stored whole: the job, its digits, their vectors and a batch that is done, for several jobs at once and in
one transaction. It must not know models.

It is for what is plain: jobs that are new, and so are their keys, while nothing is paused. All else is accepted as
any chunk is, and embedded as any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from db import locks
from db.bulk import NewDigits, copy_digits, fetch
from db.queue.intake import Submission, digests_of, parameters_of
from db.queue.jobs import JobStatus
from db.states import BatchState, JobKind, JobState
from db.vectors import embeddings
from db.vectors.filters import NO_LABEL, Described, collection_hash
from db.vectors.frames import FRAMES
from db.vectors.towers import MAINTAINED

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
_TOWERS = f"""
    SELECT array(SELECT id FROM towers WHERE {MAINTAINED} ORDER BY id),
           EXISTS (SELECT FROM lane_pauses WHERE lane IN ('intake', 'embed') AND resumed_at IS NULL)
"""
_IDS = """
    SELECT EXISTS (SELECT FROM digits WHERE key = ANY(%s::text[]) AND collection = ANY(%s::text[])),
           (SELECT array_agg(nextval('digits_id_seq')) FROM generate_series(1, %s))
"""


class NotPlain(Exception):
    """Nothing was stored: each of the jobs is accepted as any other is."""


def store_whole(session: Session, chunks: Sequence[Submission], embed: Embed, *, worker: str) -> list[JobStatus]:
    """Store jobs that are one chunk each, with their vectors under every tower that is maintained; how each ended.

    Raises NotPlain, BadVectors, and what `embed` raises.
    """
    if any(chunk.failures or not len(chunk.items) for chunk in chunks):
        raise NotPlain
    keys = [key for chunk in chunks for key in chunk.items.keys]
    if len({(chunk.collection, key) for chunk in chunks for key in chunk.items.keys}) < len(keys):
        raise NotPlain
    locks.hold_towers(session)  # before any row, as `finish` does
    ((towers, paused),) = fetch(session, _TOWERS)
    if not towers or paused:
        raise NotPlain
    opened = _open(session, chunks)
    collections = sorted({chunk.collection for chunk in chunks})
    for collection in collections:
        locks.change_keys(session, collection)
    ((stored, drawn),) = fetch(session, _IDS, (keys, collections, len(keys)))
    if stored:
        raise NotPlain
    ids: list[int] = sorted(drawn)
    pixels = np.concatenate([chunk.items.pixels for chunk in chunks])
    made = np.concatenate([chunk.items.made for chunk in chunks])
    computed = embed(session, towers, pixels, made)
    if computed is None:
        raise NotPlain
    vectors, doubtful = computed
    _append(session, ids, chunks, keys, pixels, made, doubtful)
    _write(session, ids, chunks, vectors)
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


def _append(
    session: Session,
    ids: Sequence[int],
    chunks: Sequence[Submission],
    keys: Sequence[str],
    pixels: Array,
    made: Array,
    doubtful: Array,
) -> None:
    jobs = np.frombuffer(b"".join(chunk.job.bytes for chunk in chunks), np.uint8).reshape(len(chunks), -1)
    digits = NewDigits(
        np.array(ids, np.int64),
        keys,
        [chunk.collection for chunk in chunks for _ in chunk.items.keys],
        pixels,
        digests_of(pixels),
        np.repeat(jobs, [len(chunk.items) for chunk in chunks], axis=0),
        [label for chunk in chunks for label in chunk.items.labels],
        [attributes for chunk in chunks for attributes in chunk.items.attributes],
        made,
        doubtful,
    )
    copy_digits(session, digits, seq=0)


def _write(session: Session, ids: Sequence[int], chunks: Sequence[Submission], vectors: dict[int, Array]) -> None:
    digits, count = np.asarray(ids, np.int64), len(ids)
    labels = (NO_LABEL if label is None else label for chunk in chunks for label in chunk.items.labels)
    hashes = [collection_hash(chunk.collection) for chunk in chunks]
    each = np.repeat(np.array(hashes, np.int32), [len(chunk.items) for chunk in chunks])
    stored = Described(digits, np.fromiter(labels, np.int32, count), each)
    locks.hold_digits(session)
    for tower, rows in vectors.items():
        embeddings.check(tower, digits, rows)
        embeddings.append(session, tower, FRAMES.of(session, tower), stored, rows, ())


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
