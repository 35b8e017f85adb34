"""Finishing batches: vectors, counts and state in one transaction, fenced by the token. It must not know models."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db import locks
from db.bulk import fetch, fetch_each
from db.errors import LeaseLost, TowersChanged
from db.queue.dead import bury
from db.queue.failures import KEPT_BYTES, LedgerReason
from db.queue.leases import Lease, held
from db.states import JobKind
from db.tables import Batch
from db.vectors import embeddings
from db.vectors.filters import Described, describing, read_described
from db.vectors.frames import FRAMES
from db.vectors.towers import MAINTAINED

Vectors = dict[int, np.ndarray[Any, Any]]  # by tower id, (n, 128) float32


def finish(
    session: Session,
    leases: Sequence[Lease],
    digits: np.ndarray[Any, Any],
    vectors: Vectors,
    seconds: dict[str, float],
    *,
    lenient: frozenset[int] = frozenset(),
    ends: bool = False,
) -> int:
    """Store the vectors of batches and close them, all or nothing; how many digits have a vector now.

    leases: of one batch, or of several that were claimed together. digits: (n,) their ids, ascending, in the order of
    the vectors' rows. All that is asked is asked at once: a database far away is waited for but a few times. seconds:
    spent by stage. lenient: towers under which those that are not finite are left out. ends: whether the transaction
    may be committed with the last statement, since nothing of it follows.
    Raises LeaseLost where a lease was lost, TowersChanged where vectors of
    another tower are needed as well, BadVectors where some are not finite, ValueError where their shape is wrong.
    """
    ids, fence = digits.tolist(), [_closing(lease, {"wait": lease.waited, **seconds}) for lease in leases]
    each = [embeddings.embedded_of(tower, ids) for tower in vectors]
    asked = [locks.HOLD_TOWERS, _needed(leases[0].job), *fence, locks.HOLD_DIGITS, describing(digits), *each]
    _, towers, *answers = fetch_each(session, asked)
    closed, (_, groups, *there) = answers[: len(leases)], answers[len(leases) :]
    if not towers:  # the job ended without this batch, by a cancel, and was pruned since
        raise LeaseLost(leases[0].batch)
    needed = {tower: digest for tower, digest in towers if tower is not None}
    if missing := needed.keys() - vectors.keys():
        raise TowersChanged(missing)
    for tower in needed.keys() - lenient:
        embeddings.check(tower, digits, vectors[tower])
    for lease, found in zip(leases, closed, strict=True):
        if not found:
            raise LeaseLost(lease.batch)
    stored = read_described(groups)
    alive = np.isin(digits, stored.digits)
    embedded = {tower: {row[0] for row in rows} for tower, rows in zip(vectors, there, strict=True)}
    _count_gone(session, leases, set(stored.digits.tolist()))
    for left, (tower, digest) in zip(reversed(range(len(needed))), needed.items(), strict=True):
        frame, rows, own = FRAMES.known(session, tower, digest), vectors[tower][alive], stored
        if tower in lenient:
            finite = np.isfinite(rows).all(axis=1)
            rows, own = rows[finite], Described(*(column[finite] for column in stored))
        embeddings.append(session, tower, frame, own, rows, embedded[tower], ends=ends and not left)
    return len(stored.digits)


def _needed(job: uuid.UUID) -> tuple[str, Sequence[Any]]:
    """A query for the towers that a job's digits are embedded under, and the digests of their frames; a row without a
    tower where there is none, and no row where there is no such job.
    """
    query = f"""
        SELECT towers.id, {FRAMES.digest} FROM jobs
        LEFT JOIN towers ON {MAINTAINED} AND (jobs.tower IS NULL OR towers.id = jobs.tower)
        WHERE jobs.id = %s ORDER BY towers.id
    """
    return query, (job,)


def _count_gone(session: Session, leases: Sequence[Lease], stored: set[int]) -> None:
    """Correct the counts of batches whose digits were replaced meanwhile: the jobs that waited have a failure each."""
    for lease in leases:
        if gone := len(set(lease.digits) - stored):
            column = Batch.failed if lease.kind == JobKind.EMBED else Batch.dropped
            session.execute(
                update(Batch)
                .where(Batch.id == lease.batch)
                .values({Batch.embedded: Batch.embedded - gone, column: column + gone})
            )


def quarantine(
    session: Session,
    lease: Lease,
    digits: Sequence[int],
    reason: LedgerReason,
    why: str,
    *,
    kept_bytes: int = KEPT_BYTES,
) -> Lease:
    """Move some digits of a held batch to a dead batch of their own; the lease of the rest. Raises LeaseLost."""
    batch = session.execute(select(Batch).where(*held(lease)).with_for_update()).scalar()
    if batch is None:
        raise LeaseLost(lease.batch)
    aside = set(batch.digits) & set(digits)
    if aside:
        batch.digits = [id for id in batch.digits if id not in aside]
        dead = Batch(job=batch.job, parent=batch.id, digits=sorted(aside), attempt=batch.attempt, worker=batch.worker)
        bury(session, dead, reason, why, kept_bytes=kept_bytes)
        session.add(dead)
    return replace(lease, digits=batch.digits)


def close_alone(session: Session, lease: Lease, seconds: dict[str, float]) -> None:
    """Close a batch that has no digits, of a training or of judging. Raises LeaseLost."""
    if not fetch(session, *_closing(replace(lease, digits=[]), seconds)):
        raise LeaseLost(lease.batch)


def _closing(lease: Lease, seconds: dict[str, float]) -> tuple[str, Sequence[Any]]:
    """The statement that closes a held batch, all its digits embedded. It returns a row unless the lease is lost."""
    statement = """
        UPDATE batches SET state = 'done', token = NULL, lease_until = NULL, finished_at = now(), message = NULL,
            embedded = %s, seconds = coalesce(seconds, '{}') || %s::jsonb
        WHERE id = %s AND token = %s AND state = 'leased' RETURNING id
    """
    return statement, (len(lease.digits), json.dumps(seconds), lease.batch, lease.token)
