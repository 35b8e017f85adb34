"""Small jobs stored whole: the job, its digits, their vectors and a batch that is done, for several jobs at once and in
one transaction. It must not know models.

It is for what is plain: jobs that are new, and so are their keys, while nothing is paused. All else is accepted as
any chunk is, and embedded as any batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, repeat
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from db import locks
from db.bulk import as_array, fetch_each
from db.queue.intake import Submission, parameters_of
from db.queue.jobs import JobStatus
from db.states import JobKind, JobState
from db.vectors import embeddings
from db.vectors.filters import collection_hash
from db.vectors.frames import FRAMES, digest_of
from db.vectors.towers import MAINTAINED

Array = np.ndarray[Any, Any]


class Maintained(NamedTuple):
    """A tower under which new digits get vectors. frame, gate: digests of its own, in hex; None where it has none."""

    id: int
    fingerprint: str
    is_live: bool
    frame: str | None
    gate: str | None


# The session, the towers, (n, 784) uint8, (n,) bool: what was made of something else -> (n, 128) float32 by tower, and
# (n,) bool: which of those look like no digit. None where a tower is not at hand.
Embed = Callable[[Session, Sequence[Maintained], Array, Array], tuple[dict[int, Array], Array] | None]

_OPEN_JOBS = f"""
    WITH now_standing AS MATERIALIZED (
        SELECT coalesce(jsonb_agg(jsonb_build_array(
            id, fingerprint, status = 'live', encode({FRAMES.digest}, 'hex'), encode({digest_of("gate")}, 'hex')
        ) ORDER BY id), '[]') AS towers FROM towers WHERE {MAINTAINED}
    ), opened AS (
        INSERT INTO jobs (id, kind, collection, total, chunks, receiving, parameters, callback)
        SELECT id, 'embed', collection, total, 1, false, parameters, callback
        FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::jsonb[], %s::jsonb[])
            AS new (id, collection, total, parameters, callback)
        WHERE (SELECT towers FROM now_standing) = %s::jsonb
            AND NOT EXISTS (SELECT FROM lane_pauses WHERE lane IN ('intake', 'embed') AND resumed_at IS NULL)
        ON CONFLICT DO NOTHING RETURNING id, created_at
    )
    SELECT towers, ARRAY(SELECT id FROM opened ORDER BY id), ARRAY(SELECT created_at FROM opened ORDER BY id)
    FROM now_standing
"""
# What follows, only where this transaction has opened all jobs, and no key is stored.
_STORE = """
    WITH given AS MATERIALIZED (
        SELECT nextval('digits_id_seq') AS id, n, key, collection, job, label, attributes, doubtful
        FROM unnest(%s::text[], %s::text[], %s::uuid[], %s::integer[], %s::jsonb[], %s::boolean[])
            WITH ORDINALITY AS new (key, collection, job, label, attributes, doubtful, n)
        WHERE NOT EXISTS (SELECT FROM digits WHERE key = ANY(%s::text[]) AND collection = ANY(%s::text[]))
            AND (SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND xmin = pg_current_xact_id()::xid) = %s
    ), stored AS (
        INSERT INTO digits (id, key, collection, pixels, sha256, job, seq, label, attributes, doubtful)
        SELECT id, key, collection, pixels, sha256(pixels), job, 0, label, attributes, doubtful
        FROM (SELECT *, substring(%b::bytea FROM (784 * (n - 1) + 1)::integer FOR 784) AS pixels FROM given) AS drawn
    ), {vectors}, closed AS (
        INSERT INTO batches (
            job, seq, digits, digest, items, embedded, state, attempt, worker, published_at, finished_at, seconds
        )
        SELECT job, 0, ids, digest, items, items, 'done', 1, %s, now(), clock_timestamp(), seconds
        FROM unnest(%s::uuid[], %b::bytea[], %s::jsonb[]) AS new (job, digest, seconds)
        JOIN (SELECT job, array_agg(id ORDER BY n) AS ids, count(*)::integer AS items FROM given GROUP BY job) AS of
            USING (job)
        RETURNING job, extract(epoch FROM finished_at - created_at)::float8 AS took
    )
    SELECT job, took FROM closed
"""


class NotPlain(Exception):
    """Nothing was stored: each of the jobs is accepted as any other is."""


class _Seen:
    """The towers as this process last found them: vectors are computed under these before the ledger is asked, which
    stores them only if they still are."""

    towers: Sequence[Maintained] = []


def store_whole(session: Session, chunks: Sequence[Submission], embed: Embed, *, worker: str) -> list[JobStatus]:
    """Store jobs that are one chunk each, with their vectors under every tower that is maintained; how each ended.

    Raises NotPlain, BadVectors, and what `embed` raises.
    """
    if any(chunk.failures or not len(chunk.items) for chunk in chunks):
        raise NotPlain
    keys = [key for chunk in chunks for key in chunk.items.keys]
    if len({(chunk.collection, key) for chunk in chunks for key in chunk.items.keys}) < len(keys):
        raise NotPlain
    pixels = np.concatenate([chunk.items.pixels for chunk in chunks])
    made = np.concatenate([chunk.items.made for chunk in chunks])
    seen, _Seen.towers = _Seen.towers, []  # forgotten where anything fails under them
    while True:
        computed = embed(session, seen, pixels, made) if seen else ({}, made)
        if computed is None:
            raise NotPlain
        vectors, doubtful = computed
        towers, opened, took = _store(session, chunks, keys, (pixels, made, doubtful), seen, vectors, worker)
        if towers == seen:
            break
        seen = towers  # which stay as they are, for they are held now
    _Seen.towers = seen
    if not towers or len(opened) < len(chunks) or len(took) < len(chunks):
        raise NotPlain
    return _statuses(chunks, opened, doubtful, took)


def _store(
    session: Session,
    chunks: Sequence[Submission],
    keys: Sequence[str],
    drawn: tuple[Array, Array, Array],
    seen: Sequence[Maintained],
    vectors: dict[int, Array],
    worker: str,
) -> tuple[list[Maintained], dict[Any, Any], dict[Any, float]]:
    """Store all in one journey, if these towers are maintained: the towers that are, when each job was opened, and how
    long it took, by its id. Nothing is stored unless all jobs are among both.

    drawn: (n, 784) uint8, (n,) bool, those that were made of something else, and (n,) bool, those that look like no
    digit. Raises BadVectors.
    """
    pixels, made, doubtful = drawn
    new = sorted(chunks, key=lambda chunk: chunk.job)  # always in this order: two that bring the same wait, no more
    collections = sorted({chunk.collection for chunk in chunks})
    ids = as_array(chunk.job for chunk in new)
    jobs = (
        ids,
        [chunk.collection for chunk in new],
        as_array(chunk.total for chunk in new),
        [json.dumps(parameters_of(chunk)) for chunk in new],
        [None if chunk.callback is None else json.dumps(chunk.callback) for chunk in new],
        json.dumps(seen),
    )
    counts = [len(chunk.items) for chunk in chunks]
    each = list(chain.from_iterable(map(repeat, chunks, counts)))
    rows: tuple[Any, ...] = (
        keys,
        [chunk.collection for chunk in each],
        as_array(chunk.job for chunk in each),
        as_array(label for chunk in chunks for label in chunk.items.labels),
        [
            None if attributes is None else json.dumps(attributes)
            for chunk in chunks
            for attributes in chunk.items.attributes
        ],
        as_array(doubts if of else None for of, doubts in zip(made.tolist(), doubtful.tolist(), strict=True)),
        keys,
        collections,
        ids,
        len(new),
        pixels.tobytes(),
    )
    hashes = np.repeat(np.array([collection_hash(chunk.collection) for chunk in chunks], np.int32), counts)
    statements, placed = [], list[Any]()
    for tower in seen:
        embeddings.check(tower.id, np.arange(len(keys)), vectors[tower.id])
        frame = None if tower.frame is None else FRAMES.known(session, tower.id, bytes.fromhex(tower.frame))
        statement, parameters = embeddings.appending(tower.id, frame, hashes, vectors[tower.id])
        statements.append(f"of_{tower.id} AS ({statement})")
        placed += parameters
    batches: tuple[Any, ...] = (
        worker,
        as_array(chunk.job for chunk in chunks),
        [chunk.digest for chunk in chunks],
        [json.dumps({"wait": 0.0, **chunk.seconds}) for chunk in chunks],
    )
    asked = [
        locks.HOLD_TOWERS,  # before any row, as `finish` does
        (_OPEN_JOBS, jobs),
        *map(locks.changing_keys, collections),
        locks.HOLD_DIGITS,
    ]
    if statements:
        asked.append((_STORE.format(vectors=", ".join(statements)), (*rows, *placed, *batches)))
    _, ((towers, opened, times),), *_, last = fetch_each(session, asked)
    took = dict(last) if statements else {}
    return [Maintained(*tower) for tower in towers], dict(zip(opened, times, strict=True)), took


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
