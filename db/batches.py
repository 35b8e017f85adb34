"""The life of a batch: claimed under a lease, finished behind a fence, rescued by the sweep.

queued -> leased -> done; a lease that runs out puts it back; `split` and `dead` are for batches that kill whoever
holds them. All times are the database's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Interval, and_, cast, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import embeddings, locks
from db.digits import existing, fail, waiting_for
from db.errors import Fenced, TowersChanged
from db.tables import Batch, Digit, Embedding, Job, Tower

KINDS = ("embed", "fill", "train")  # of jobs
SMALL = 16  # digits of a batch that is claimed together with others
TOGETHER = 256  # such batches at most
PARTS = 4  # that a batch which kills its workers is split into: of 4,096 digits one culprit is found in 10 deaths
Vectors = dict[int, np.ndarray[Any, Any]]  # by tower id, (n, 128) float32


@dataclass(frozen=True)
class Lease:
    """A claimed batch. `token` is what its holder proves himself with."""

    batch: int
    token: uuid.UUID
    job: uuid.UUID
    kind: str
    digits: list[int]
    attempt: int
    towers: tuple[int, ...]  # to embed under
    parameters: dict[str, Any]
    calls_back: bool  # whether its job names a task that is told of the end
    waited: float  # seconds from submission to this claim


def claim(
    session: Session, batch: int, *, kinds: Sequence[str] = KINDS, worker: str, lease: float, max_attempts: int
) -> Lease | None:
    """Take a batch for `lease` seconds; None where it is not to be had: done, leased, cancelled, or without a tower.

    kinds: of jobs; a batch of another is not to be had, whatever a message says.

    A None is no error: the bell is rung more often than there is work.
    """
    job = session.execute(select(Job).join(Batch, Batch.job == Job.id).where(Batch.id == batch)).scalar()
    if job is None or job.kind not in kinds:
        return None
    towers = _towers_for(session, job)
    if not towers and job.kind != "train":
        return None
    token = uuid.uuid4()
    row = session.execute(
        update(Batch)
        .where(
            Batch.id == batch,
            or_(
                Batch.state == "queued",
                and_(Batch.state == "leased", Batch.lease_until < func.now(), Batch.attempt < max_attempts),
            ),
        )
        .values(**_leased(token, worker, lease))
        .returning(*_LEASED)
    ).one_or_none()
    return None if row is None else _lease(row, token, job, towers)


def claim_more(session: Session, first: Lease, *, worker: str, lease: float) -> list[Lease]:
    """Take the other small batches of new digits that wait, to be embedded and finished with `first`.

    Not those that a worker died on: what is suspect is tried alone.
    """
    token = uuid.uuid4()
    chosen = (
        select(Batch.id)
        .join(Job, Job.id == Batch.job)
        .where(Batch.state == "queued", Batch.attempt == 0, Job.kind == "embed")
        .where(func.cardinality(Batch.digits) <= SMALL)
        .order_by(Batch.id)
        .limit(TOGETHER - 1)
        .with_for_update(of=Batch, skip_locked=True)
    )
    rows = session.execute(
        update(Batch)
        .where(Batch.id.in_(chosen.scalar_subquery()), Batch.job == Job.id)
        .values(**_leased(token, worker, lease))
        .returning(*_LEASED, Job)
    )
    return [_lease(row, token, row.Job, first.towers) for row in rows]


def _leased(token: uuid.UUID, worker: str, seconds: float) -> dict[str, Any]:
    return {
        "state": "leased",
        "token": token,
        "attempt": Batch.attempt + 1,
        "lease_until": func.now() + _seconds(seconds),
        "worker": worker,
    }


_LEASED = (Batch.id, Batch.digits, Batch.attempt, func.extract("epoch", func.now() - Batch.created).label("waited"))


def _lease(row: Any, token: uuid.UUID, job: Job, towers: tuple[int, ...]) -> Lease:
    return Lease(
        batch=row.id,
        token=token,
        job=job.id,
        kind=job.kind,
        digits=row.digits,
        attempt=row.attempt,
        towers=towers,
        parameters=job.parameters,
        calls_back=job.callback is not None,
        waited=float(row.waited),
    )


def renew(session: Session, lease: Lease, seconds: float) -> bool:
    """Hold on for `seconds` more; False where the lease is lost."""
    renewed = session.execute(
        update(Batch).where(*_held(lease)).values(lease_until=func.now() + _seconds(seconds)).returning(Batch.id)
    )
    return renewed.scalar() is not None


def give_back(session: Session, lease: Lease, *, error: str | None = None) -> None:
    """Queue the batch again, as if it had not been claimed. Given back is not failed.

    error: what the work ended with, noted in the batch. Its bell is due only when bells are repeated, for what failed
    at once would fail at once again.
    """
    session.execute(
        update(Batch)
        .where(*_held(lease))
        .values(
            state="queued",
            token=None,
            lease_until=None,
            rung=None if error is None else func.now(),
            attempt=Batch.attempt - 1,
            message=error,
        )
    )


def finish(
    session: Session,
    leases: Sequence[Lease],
    digits: np.ndarray[Any, Any],
    vectors: Vectors,
    seconds: dict[str, float],
) -> int:
    """Store the vectors of batches and close these, all or nothing; how many digits have theirs now.

    leases: of one batch, or of several that were claimed together. digits: (n,) their ids, ascending, in the order of
    the vectors' rows. seconds: spent by stage. Raises Fenced where a lease was lost, TowersChanged where vectors of
    another tower are needed as well, BadVectors where some are none.
    """
    locks.hold_towers(session)
    job = session.execute(select(Job).where(Job.id == leases[0].job)).scalar_one()
    needed = set(_towers_for(session, job))
    if missing := needed - vectors.keys():
        raise TowersChanged(missing)
    for tower in needed:
        embeddings.check(tower, digits, vectors[tower])
    for lease in leases:
        _close(session, lease, {"wait": lease.waited, **seconds}, embedded=len(lease.digits))
    locks.hold_digits(session)
    alive = existing(session, digits)
    if not alive.all():
        digits, vectors = digits[alive], {tower: rows[alive] for tower, rows in vectors.items()}
    for tower in needed:
        embeddings.write(session, tower, digits, vectors[tower])
    _count_gone(session, leases, set(digits.tolist()))
    return len(digits)


def _count_gone(session: Session, leases: Sequence[Lease], stored: set[int]) -> None:
    """Correct the counts of batches whose digits were replaced meanwhile: failures of the jobs that waited for them."""
    for lease in leases:
        if gone := len(set(lease.digits) - stored):
            column = Batch.failed if lease.kind == "embed" else Batch.dropped
            session.execute(
                update(Batch)
                .where(Batch.id == lease.batch)
                .values({Batch.embedded: Batch.embedded - gone, column: column + gone})
            )


def set_aside(session: Session, lease: Lease, digits: Sequence[int], reason: str, why: str) -> Lease:
    """Bury some digits of a held batch in one of their own; the lease of the rest. Raises Fenced."""
    held = session.execute(select(Batch).where(*_held(lease)).with_for_update()).scalar()
    if held is None:
        raise Fenced(f"the lease of batch {lease.batch} is lost")
    aside = set(held.digits) & set(digits)
    if aside:
        held.digits = [id for id in held.digits if id not in aside]
        dead = Batch(job=held.job, parent=held.id, digits=sorted(aside), attempt=held.attempt, worker=held.worker)
        _bury(session, dead, reason, why)
        session.add(dead)
    return replace(lease, digits=held.digits)


def close_training(session: Session, lease: Lease, seconds: dict[str, float]) -> None:
    """Close the batch of a training. Raises Fenced."""
    _close(session, lease, seconds, embedded=0)


def _close(session: Session, lease: Lease, seconds: dict[str, float], *, embedded: int) -> None:
    closed = session.execute(
        update(Batch)
        .where(*_held(lease))
        .values(
            state="done",
            token=None,
            lease_until=None,
            finished=func.now(),
            message=None,
            embedded=embedded,
            seconds=func.coalesce(Batch.seconds, cast(literal("{}"), Batch.seconds.type)).op("||")(
                cast(seconds, Batch.seconds.type)
            ),
        )
        .returning(Batch.id)
    )
    if closed.scalar() is None:
        raise Fenced(f"the lease of batch {lease.batch} is lost")


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return Batch.id == lease.batch, Batch.token == lease.token, Batch.state == "leased"


def _towers_for(session: Session, job: Job) -> tuple[int, ...]:
    """Those a job's digits are embedded under: all that are live or being filled, or the one that a fill names."""
    query = select(Tower.id).where(Tower.status.in_(["live", "candidate"])).order_by(Tower.id)
    if job.kind == "fill":
        query = query.where(Tower.id == job.tower)
    return tuple(session.execute(query).scalars())


def _seconds(count: float) -> ColumnElement[Any]:
    return cast(f"{count} seconds", Interval)


# --- the sweep ---


def rescue(session: Session, *, max_attempts: int) -> int:
    """Queue what dead holders left; what killed `max_attempts` of them is split, or dead where it is one alone."""
    session.execute(
        update(Batch)
        .where(Batch.state == "leased", Batch.lease_until < func.now(), Batch.attempt < max_attempts)
        .values(state="queued", token=None, lease_until=None, rung=None)
    )
    poisoned = session.execute(
        select(Batch)
        .where(Batch.state == "leased", Batch.lease_until < func.now())
        .order_by(Batch.id)
        .with_for_update(skip_locked=True)
    ).scalars()
    count = 0
    for batch in poisoned:
        _isolate(session, batch, max_attempts)
        count += 1
    return count


def _isolate(session: Session, batch: Batch, max_attempts: int) -> None:
    if len(batch.digits) > 1:
        _end(batch, "split")
        size = -(-len(batch.digits) // PARTS)
        for start in range(0, len(batch.digits), size):
            part = batch.digits[start : start + size]
            # The parts are suspects already: one more death is enough. What stands alone gets a second chance, for
            # it may have died of something else.
            attempt = max(max_attempts - (1 if len(part) > 1 else 2), 0)
            session.execute(
                insert(Batch).values(job=batch.job, parent=batch.id, state="queued", digits=part, attempt=attempt)
            )
        return
    _bury(session, batch, "poison", f"its worker died {batch.attempt} times on it, last {batch.worker}")


def _bury(session: Session, batch: Batch, reason: str, why: str) -> None:
    """Close a batch for good. Its digits are failures of their job; they stay stored, and nobody owes them a vector."""
    job = session.execute(select(Job).where(Job.id == batch.job)).scalar_one()
    if job.kind == "embed":
        fail(session, job.id, batch.digits, reason, why)
    else:
        job.message, job.ended = f"batch {batch.id}: {why}", func.now()
    batch.failed = (batch.failed or 0) + len(batch.digits)
    batch.message = why
    _end(batch, "dead")


def _end(batch: Batch, state: str) -> None:
    batch.state, batch.token, batch.lease_until, batch.finished = state, None, None, func.now()


def to_ring(session: Session, kind: str, *, republish_after: float, in_flight: int) -> list[tuple[int, str]]:
    """(id, kind) of queued batches of a kind whose bell is due, oldest first, and note that it is rung now.

    Due is what was never rung, or long ago; the bells that are out and unheard stay below `in_flight`.
    """
    due = or_(Batch.rung.is_(None), Batch.rung < func.now() - _seconds(republish_after))
    out = session.execute(
        select(func.count()).select_from(Batch).join(Job).where(Batch.state == "queued", ~due, Job.kind == kind)
    ).scalar_one()
    if out >= in_flight:
        return []
    has_tower = exists(
        select(Tower.id).where(Tower.status.in_(["live", "candidate"]), or_(Job.tower.is_(None), Job.tower == Tower.id))
    )
    chosen = (
        select(Batch.id)
        .join(Job, Job.id == Batch.job)
        .where(Batch.state == "queued", due, Job.kind == kind, or_(Job.kind == "train", has_tower))
        .order_by(Batch.id)
        .limit(in_flight - out)
        .with_for_update(of=Batch, skip_locked=True)
    )
    rung = session.execute(
        update(Batch)
        .where(Batch.id.in_(chosen.scalar_subquery()), Batch.job == Job.id)
        .values(rung=func.now())
        .returning(Batch.id, Job.kind)
    )
    return sorted((row.id, row.kind) for row in rung)


def backlog(session: Session) -> int:
    """Digits that callers sent and that are not embedded yet."""
    query = (
        select(func.coalesce(func.sum(func.cardinality(Batch.digits)), 0))
        .join(Job, Job.id == Batch.job)
        .where(Batch.state.in_(["queued", "leased"]), Job.kind == "embed")
    )
    return int(session.execute(query).scalar_one())


def receipts(session: Session, job: uuid.UUID, *, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
    """(seq, digest) of a job's accepted chunks after `after`."""
    query = select(Batch.seq, Batch.digest).where(Batch.job == job, Batch.seq > after).order_by(Batch.seq).limit(limit)
    return [(row.seq, row.digest) for row in session.execute(query)]


def accepted_as(session: Session, job: uuid.UUID, seq: int) -> bytes | None:
    """The digest of the chunk that stands in SQL under this number; None where none does."""
    return session.execute(select(Batch.digest).where(Batch.job == job, Batch.seq == seq)).scalar()


def items_before(session: Session, job: uuid.UUID, seq: int) -> int:
    """Pictures of a job's chunks that stand in SQL and have a lower number."""
    query = select(func.coalesce(func.sum(Batch.items), 0)).where(Batch.job == job, Batch.seq < seq)
    return int(session.execute(query).scalar_one())


def drop_open(session: Session, job: uuid.UUID) -> None:
    """Cancel a job's open batches: their holders are fenced, and digits that have no vector are forgotten.

    Those stay that another job waits for.
    """
    open_batches = (
        session.execute(
            select(Batch)
            .where(Batch.job == job, Batch.state.in_(["queued", "leased"]))
            .order_by(Batch.id)
            .with_for_update()
        )
        .scalars()
        .all()
    )
    for batch in open_batches:
        _end(batch, "cancelled")
        batch.dropped = len(batch.digits)
    # Locked before it is looked who else waits for them: whoever comes to wait locks them as well.
    listed = [id for batch in open_batches for id in batch.digits]
    brought = Digit.job.in_(select(Job.id).where(Job.cancelled.isnot(None)))  # by this job, or one cancelled before
    query = select(Digit.id).where(Digit.id == func.any(listed), brought).order_by(Digit.id).with_for_update(of=Digit)
    unwanted = set(session.execute(query).scalars())
    unwanted.difference_update(*waiting_for(session, list(unwanted)).values())
    locks.drop_digits(session)
    has_vector = exists(
        select(Embedding.digit).where(
            Embedding.tower.in_(select(Tower.id).where(Tower.status.in_(["live", "candidate"]))),
            Embedding.digit == Digit.id,
        )
    )
    session.execute(delete(Digit).where(Digit.id == func.any(list(unwanted)), ~has_vector))
