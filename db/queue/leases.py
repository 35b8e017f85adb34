"""Leases on batches: claim, renew, give back. All times are the database's.

It must not know vectors: what a finished batch stores is the business of `finish`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Interval, cast, func, select, update
from sqlalchemy.orm import Session

from db.bulk import fetch_each
from db.queue.pauses import NOT_HELD, is_held
from db.states import BatchState, JobKind
from db.tables import Batch, Job
from db.vectors.towers import MAINTAINED

SMALL = 16  # digits of a batch that is claimed together with others; so says the index `small_batches` as well
TOGETHER = 256  # such batches at most
AT_ONE_PACE = 3  # tries of a batch that fails with an exception, before the pauses between them grow
LONGEST_PAUSE = 300  # seconds, and `pause` where that is longer


@dataclass(frozen=True)
class Lease:
    """A claimed batch. Every write of its holder must show `token`, the fencing token."""

    batch: int
    token: uuid.UUID
    job: uuid.UUID
    kind: JobKind
    digits: list[int]
    attempt: int
    towers: tuple[int, ...]  # to embed under
    parameters: dict[str, Any]
    calls_back: bool  # whether its job names a task to call when it ends
    waited: float  # seconds from submission to this claim


def claim(
    session: Session,
    batch: int,
    *,
    kinds: Sequence[JobKind] = tuple(JobKind),
    worker: str,
    lease: float,
    max_attempts: int,
    ends: bool = False,
) -> Lease | None:
    """Take a batch for `lease` seconds; None where it is done, leased, cancelled, paused, or has no tower to be
    embedded under.

    kinds: of jobs; a batch of another kind is never claimed, whatever a message says. ends: whether the transaction is
    committed with it.

    None is normal: a batch may be published more than once.
    """
    token = uuid.uuid4()
    values = (token, worker, lease, batch, [str(kind) for kind in kinds], max_attempts)
    (claimed,) = fetch_each(session, [(_CLAIM, values)], ends=ends)
    for id, digits, tries, waited, job, kind, parameters, calls_back, towers in claimed:
        return Lease(
            batch=id,
            token=token,
            job=job,
            kind=JobKind(kind),
            digits=digits,
            attempt=tries,
            towers=tuple(towers),
            parameters=parameters,
            calls_back=calls_back,
            waited=waited,
        )
    return None


_TOWERS = f"FROM towers WHERE {MAINTAINED} AND (jobs.tower IS NULL OR towers.id = jobs.tower)"
_CLAIM = f"""
    UPDATE batches SET state = 'leased', token = %s, attempt = attempt + 1, worker = %s,
        lease_until = now() + %s * interval '1 second'
    FROM jobs
    WHERE batches.id = %s AND jobs.id = batches.job AND kind = ANY(%s::text[]) AND {NOT_HELD}
        AND (state = 'queued' OR state = 'leased' AND lease_until < now() AND attempt < %s)
        AND (kind = 'train' OR EXISTS (SELECT {_TOWERS}))
    RETURNING batches.id, digits, attempt, extract(epoch FROM now() - batches.created_at)::float8, jobs.id, kind,
        parameters, callback IS NOT NULL, ARRAY(SELECT towers.id {_TOWERS} ORDER BY towers.id)
"""  # in one statement: a database far away is waited for once


def claim_more(session: Session, first: Lease, *, worker: str, lease: float) -> list[Lease]:
    """Take other small queued batches of new digits, to be embedded and finished together with `first`.

    Not those whose worker crashed or whose work failed before: such a suspect is tried alone.
    """
    token = uuid.uuid4()
    chosen = (
        select(Batch.id)
        .join(Job, Job.id == Batch.job)
        .where(Batch.state == BatchState.QUEUED, Batch.attempt == 0, Batch.errors == 0, Job.kind == JobKind.EMBED)
        .where(~is_held())
        .where(Batch.size <= SMALL)
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
    return [
        Lease(
            batch=row.id,
            token=token,
            job=row.Job.id,
            kind=row.Job.kind,
            digits=row.digits,
            attempt=row.attempt,
            towers=first.towers,
            parameters=row.Job.parameters,
            calls_back=row.Job.callback is not None,
            waited=float(row.waited),
        )
        for row in rows
    ]


def renew(session: Session, lease: Lease, seconds: float) -> bool:
    """Extend the lease to `seconds` from now; False where it is lost."""
    renewed = session.execute(
        update(Batch).where(*held(lease)).values(lease_until=func.now() + interval(seconds)).returning(Batch.id)
    )
    return renewed.scalar() is not None


def give_back(session: Session, lease: Lease, *, error: str | None = None, pause: float = 15) -> None:
    """Queue the batch again, as if it had not been claimed: this is not an attempt.

    error: what the work ended with, noted in the batch. It is tried again only after `pause` seconds, since what failed
    at once would fail at once again, and after AT_ONE_PACE such tries later and later.
    """
    given: dict[str, Any] = {
        "state": BatchState.QUEUED,
        "token": None,
        "lease_until": None,
        "published_at": None,
        "attempt": Batch.attempt - 1,
    }
    if error is not None:
        doublings = func.least(func.greatest(Batch.errors + 1 - AT_ONE_PACE, 0), 16)
        seconds = func.least(pause * func.power(2, doublings), max(pause, LONGEST_PAUSE))
        retry_at = func.now() + seconds * interval(1)
        given |= {"message": error, "errors": Batch.errors + 1, "retry_at": retry_at}
    session.execute(update(Batch).where(*held(lease)).values(**given))


def held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return Batch.id == lease.batch, Batch.token == lease.token, Batch.state == BatchState.LEASED


def interval(count: float) -> ColumnElement[Any]:
    return cast(f"{count} seconds", Interval)


_LEASED = (Batch.id, Batch.digits, Batch.attempt, func.extract("epoch", func.now() - Batch.created_at).label("waited"))


def _leased(token: uuid.UUID, worker: str, seconds: float) -> dict[str, Any]:
    return {
        "state": BatchState.LEASED,
        "token": token,
        "attempt": Batch.attempt + 1,
        "lease_until": func.now() + interval(seconds),
        "worker": worker,
    }
