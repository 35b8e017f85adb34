"""Small jobs stored whole: the job, its digits, their vectors and a batch that is done, for several jobs at once and in
one transaction. It must not know models.

It is for what is plain: jobs that are new, and so are their keys, while nothing is paused. All else is accepted as
any chunk is, and embedded as any batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db import locks
from db.bulk import as_array, fetch_each
from db.queue.intake import Submission, parameters_of
from db.queue.jobs import JobStatus
from db.states import JobKind, JobState
from db.vectors import embeddings
from db.vectors.filters import NO_LABEL, Described, collection_hash
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES
from db.vectors.towers import MAINTAINED

Array = np.ndarray[Any, Any]
# The session, the fingerprint of each tower by its id, (n, 784) uint8, (n,) bool: what was made of something else ->
# (n, 128) float32 by tower, and (n,) bool: which of those look like no digit. None where a tower is not at hand.
Embed = Callable[[Session, Mapping[int, str], Array, Array], tuple[dict[int, Array], Array] | None]

_TOWERS = f"""
    SELECT id, fingerprint, {FRAMES.digest},
           EXISTS (SELECT FROM lane_pauses WHERE lane IN ('intake', 'embed') AND resumed_at IS NULL)
    FROM towers WHERE {MAINTAINED} ORDER BY id
"""
_OPEN_JOBS = """
    INSERT INTO jobs (id, kind, collection, total, chunks, receiving, parameters, callback)
    SELECT id, 'embed', collection, total, 1, false, parameters, callback
    FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::jsonb[], %s::jsonb[])
        AS new (id, collection, total, parameters, callback)
    ON CONFLICT DO NOTHING RETURNING id, created_at
"""
_IDS = """
    SELECT EXISTS (SELECT FROM digits WHERE key = ANY(%s::text[]) AND collection = ANY(%s::text[])),
           (SELECT array_agg(nextval('digits_id_seq')) FROM generate_series(1, %s))
"""
_STORE_DIGITS = """
    INSERT INTO digits (id, key, collection, pixels, sha256, job, seq, label, attributes, doubtful)
    SELECT id, key, collection, pixels, sha256(pixels), job, 0, label, attributes, doubtful
    FROM unnest(
        %s::bigint[], %s::text[], %s::text[], %b::bytea[], %s::uuid[], %s::integer[], %s::jsonb[], %s::boolean[]
    ) AS new (id, key, collection, pixels, job, label, attributes, doubtful)
"""
_CLOSE_BATCHES = """
    INSERT INTO batches (
        job, seq, digits, digest, items, embedded, state, attempt, worker, published_at, finished_at, seconds
    )
    SELECT job, 0, digits::bigint[], digest, items, items, 'done', 1, %s, now(), clock_timestamp(), seconds
    FROM unnest(%s::uuid[], %s::text[], %b::bytea[], %s::integer[], %s::jsonb[])
        AS new (job, digits, digest, items, seconds)
    RETURNING job, extract(epoch FROM finished_at - created_at)::float8
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
    opened, towers, ids = _begin(session, chunks, keys)
    pixels = np.concatenate([chunk.items.pixels for chunk in chunks])
    made = np.concatenate([chunk.items.made for chunk in chunks])
    computed = embed(session, {id: fingerprint for id, fingerprint, *_ in towers}, pixels, made)
    if computed is None:
        raise NotPlain
    vectors, doubtful = computed
    frames = {id: FRAMES.known(session, id, digest) for id, _, digest, _ in towers}
    rows, batches = _digits(chunks, ids, keys, pixels, made, doubtful), _batches(chunks, ids, worker)
    *_, took = fetch_each(session, [rows, *_vectors(chunks, ids, vectors, frames), batches])
    return _statuses(chunks, opened, doubtful, dict(took))


def _begin(
    session: Session, chunks: Sequence[Submission], keys: Sequence[str]
) -> tuple[dict[Any, Any], list[tuple[Any, ...]], list[int]]:
    """Lock, in the order of all who do, and open the jobs: when each was opened, by its id, the towers that are
    maintained, as `_TOWERS` has them, and ids for the digits, ascending. Raises NotPlain."""
    new = sorted(chunks, key=lambda chunk: chunk.job)  # always in this order: two that bring the same wait, no more
    collections = sorted({chunk.collection for chunk in chunks})
    jobs = (
        [chunk.job for chunk in new],
        [chunk.collection for chunk in new],
        [chunk.total for chunk in new],
        [json.dumps(parameters_of(chunk)) for chunk in new],
        [None if chunk.callback is None else json.dumps(chunk.callback) for chunk in new],
    )
    asked = [
        locks.HOLD_TOWERS,  # before any row, as `finish` does
        (_TOWERS, ()),
        (_OPEN_JOBS, jobs),
        *map(locks.changing_keys, collections),
        (_IDS, (keys, collections, len(keys))),
        locks.HOLD_DIGITS,
    ]
    _, towers, opened, *_, ((stored, drawn),), _ = fetch_each(session, asked)
    if not towers or towers[0][-1] or len(opened) < len(new) or stored:
        raise NotPlain
    return dict(opened), towers, sorted(drawn)


def _digits(
    chunks: Sequence[Submission], ids: Sequence[int], keys: Sequence[str], pixels: Array, made: Array, doubtful: Array
) -> tuple[str, Sequence[Any]]:
    """The statement that stores the digits, with its parameters."""
    held, size = pixels.tobytes(), pixels.shape[1]
    columns = (
        as_array(ids),
        keys,
        [chunk.collection for chunk in chunks for _ in chunk.items.keys],
        [held[at : at + size] for at in range(0, len(held), size)],
        [chunk.job for chunk in chunks for _ in chunk.items.keys],
        [label for chunk in chunks for label in chunk.items.labels],
        [None if each is None else json.dumps(each) for chunk in chunks for each in chunk.items.attributes],
        [doubts if of else None for of, doubts in zip(made.tolist(), doubtful.tolist(), strict=True)],
    )
    return _STORE_DIGITS, columns


def _vectors(
    chunks: Sequence[Submission], ids: Sequence[int], vectors: dict[int, Array], frames: dict[int, Frame | None]
) -> list[tuple[str, Sequence[Any]]]:
    """The statements that store the vectors, with their parameters. Raises BadVectors."""
    digits, count = np.asarray(ids, np.int64), len(ids)
    labels = (NO_LABEL if label is None else label for chunk in chunks for label in chunk.items.labels)
    hashes = [collection_hash(chunk.collection) for chunk in chunks]
    each = np.repeat(np.array(hashes, np.int32), [len(chunk.items) for chunk in chunks])
    stored = Described(digits, np.fromiter(labels, np.int32, count), each)
    for tower, rows in vectors.items():
        embeddings.check(tower, digits, rows)
    return [embeddings.appending(tower, frames[tower], stored, rows) for tower, rows in vectors.items()]


def _batches(chunks: Sequence[Submission], ids: Sequence[int], worker: str) -> tuple[str, Sequence[Any]]:
    """The statement that writes a batch of each job, with its parameters."""
    counts = [len(chunk.items) for chunk in chunks]
    columns = (
        [chunk.job for chunk in chunks],
        [as_array(ids[end - count : end]) for end, count in zip(accumulate(counts), counts, strict=True)],
        [chunk.digest for chunk in chunks],
        counts,
        [json.dumps({"wait": 0.0, **chunk.seconds}) for chunk in chunks],
    )
    return _CLOSE_BATCHES, (worker, *columns)


def _statuses(
    chunks: Sequence[Submission], opened: dict[Any, Any], doubtful: Array, took: dict[Any, float]
) -> list[JobStatus]:
    """The status of each job, as `jobs.status` would give it."""
    ends = accumulate(len(chunk.items) for chunk in chunks)
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
            doubtful=int(doubtful[end - len(chunk.items) : end].sum()),
        )
        for chunk, end in zip(chunks, ends, strict=True)
    ]
