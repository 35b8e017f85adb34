"""Finishing batches: vectors, counts and state in one transaction, fenced by the token. It must not know models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import cast, func, literal, select, update
from sqlalchemy.orm import Session

from db import locks
from db.errors import LeaseLost, TowersChanged
from db.queue.dead import bury
from db.queue.failures import KEPT_BYTES, LedgerReason
from db.queue.leases import Lease, held, towers_for
from db.states import BatchState, JobKind
from db.tables import Batch, Job
from db.vectors import embeddings
from db.vectors.filters import Described, described

Vectors = dict[int, np.ndarray[Any, Any]]  # by tower id, (n, 128) float32


def finish(
    session: Session,
    leases: Sequence[Lease],
    digits: np.ndarray[Any, Any],
    vectors: Vectors,
    seconds: dict[str, float],
    *,
    lenient: frozenset[int] = frozenset(),
) -> int:
    """Store the vectors of batches and close them, all or nothing; how many digits have a vector now.

    leases: of one batch, or of several that were claimed together. digits: (n,) their ids, ascending, in the order of
    the vectors' rows. seconds: spent by stage. lenient: towers under which those that are not finite are left out.
    Raises LeaseLost where a lease was lost, TowersChanged where vectors of
    another tower are needed as well, BadVectors where some are not finite, ValueError where their shape is wrong.
    """
    locks.hold_towers(session)
    job = session.execute(select(Job).where(Job.id == leases[0].job)).scalar()
    if job is None:  # it ended without this batch, by a cancel, and was pruned since
        raise LeaseLost(leases[0].batch)
    needed = set(towers_for(session, job))
    if missing := needed - vectors.keys():
        raise TowersChanged(missing)
    for tower in needed - lenient:
        embeddings.check(tower, digits, vectors[tower])
    for lease in leases:
        _close(session, lease, {"wait": lease.waited, **seconds}, embedded=len(lease.digits))
    locks.hold_digits(session)
    stored = described(session, digits)
    if len(stored.digits) < len(digits):
        alive = np.isin(digits, stored.digits)
        vectors = {tower: rows[alive] for tower, rows in vectors.items()}
    for tower in needed - lenient:
        embeddings.write(session, tower, stored, vectors[tower])
    for tower in needed & lenient:
        finite = np.isfinite(vectors[tower]).all(axis=1)
        embeddings.write(session, tower, Described(*(each[finite] for each in stored)), vectors[tower][finite])
    _count_gone(session, leases, set(stored.digits.tolist()))
    return len(stored.digits)


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
    _close(session, lease, seconds, embedded=0)


def _close(session: Session, lease: Lease, seconds: dict[str, float], *, embedded: int) -> None:
    closed = session.execute(
        update(Batch)
        .where(*held(lease))
        .values(
            state=BatchState.DONE,
            token=None,
            lease_until=None,
            finished_at=func.now(),
            message=None,
            embedded=embedded,
            seconds=func.coalesce(Batch.seconds, cast(literal("{}"), Batch.seconds.type)).op("||")(
                cast(seconds, Batch.seconds.type)
            ),
        )
        .returning(Batch.id)
    )
    if closed.scalar() is None:
        raise LeaseLost(lease.batch)
