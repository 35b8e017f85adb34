"""Pictures that were not embedded, by job: recorded and listed. It must not know how a batch failed."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, undefer

from db.errors import UnknownKey
from db.states import OPEN, JobKind
from db.tables import Batch, Digit, Failure, Job

# Codes of failures after intake.
LedgerReason = Literal["duplicate_key", "superseded", "deleted", "poison", "not_finite", "error"]
OF_DEAD: tuple[LedgerReason, ...] = ("poison", "not_finite", "error")  # of the digits of dead batches
PAGE_BYTES = 8 * 2**20  # of the pictures of a page, or it is one: whoever asks has it in memory some ten times over
KEPT_BYTES = 256 * 2**20  # of the pictures that a job's failures keep, where the caller names no other number


class FailedItem(NamedTuple):
    """A key, a stable reason code, a sentence, and the bytes that were sent, if any."""

    key: str
    reason: str
    message: str
    picture: bytes | None
    is_glyph: bool = False  # whether `picture` is 28x28 uint8, not a file
    label: int | None = None
    attributes: dict[str, Any] | None = None


def record(session: Session, job: uuid.UUID, items: Sequence[FailedItem], *, kept_bytes: int = KEPT_BYTES) -> None:
    """Record failures of a job. A key that failed before for the same reason counts as one more attempt.

    kept_bytes: of pictures that one job's failures keep, about: what comes past it is listed without its picture, and
    transactions side by side do not see each other's.
    """
    if not items:
        return
    # One statement cannot touch a row twice, and a job may repeat a key.
    by_key: dict[tuple[str, str], list[FailedItem]] = {}
    for item in items:
        by_key.setdefault((item.key, item.reason), []).append(item)
    rows = [
        {"job": job, **same[-1]._asdict(), "attempts": len(same), "message": same[-1].message.replace("\0", "")}
        for _, same in sorted(by_key.items())
    ]
    _keep_at_most(session, job, rows, kept_bytes)
    statement = insert(Failure)
    statement = statement.on_conflict_do_update(
        index_elements=["job", "key", "reason"],
        set_={
            "message": statement.excluded.message,
            "picture": statement.excluded.picture,
            "is_glyph": statement.excluded.is_glyph,
            "label": statement.excluded.label,
            "attributes": statement.excluded.attributes,
            "attempts": Failure.attempts + statement.excluded.attempts,
        },
    )
    session.execute(statement, rows)


def _keep_at_most(session: Session, job: uuid.UUID, rows: list[dict[str, Any]], most: int) -> None:
    """Take the pictures out of the rows for which a job has no room left."""
    if not any(row["picture"] for row in rows):
        return
    kept = select(func.coalesce(func.sum(func.octet_length(Failure.picture)), 0))  # the length alone is read
    room = most - int(session.execute(kept.where(Failure.job == job, Failure.picture.isnot(None))).scalar_one())
    for row in rows:
        size = len(row["picture"] or b"")
        if size > room:
            row["picture"] = None
        else:
            room -= size


def page(session: Session, job: uuid.UUID, *, after: str, limit: int, pictures: bool = False) -> list[Failure]:
    """The next `limit` failures of a job, by key, after the key `after`; with the bytes that were sent, if asked for.

    Of the last key all are among them, however many. With bytes there are fewer where they are large: there is a next
    page until one is empty.
    """
    ahead = (Failure.job == job, Failure.key > after)
    query = select(Failure).where(*ahead).order_by(Failure.key)
    if pictures:
        size = func.coalesce(func.octet_length(Failure.picture), 0)  # the length alone is read
        sizes = session.execute(select(size).where(*ahead).order_by(Failure.key).limit(limit)).scalars().all()
        limit = fitting(sizes)
        query = query.options(undefer(Failure.picture))
    return list(session.execute(query.fetch(limit, with_ties=True)).scalars())


def fitting(sizes: Sequence[int]) -> int:
    """How many of these a page has room for; one at least."""
    ends = list(accumulate(sizes))
    return max(1, bisect_right(ends, PAGE_BYTES))


def of_key(session: Session, job: uuid.UUID, key: str) -> list[Failure]:
    """The failures of one key, by reason, with the bytes that were sent. Raises UnknownKey where there is none."""
    query = select(Failure).where(Failure.job == job, Failure.key == key).order_by(Failure.reason)
    found = list(session.execute(query.options(undefer(Failure.picture))).scalars())
    if not found:
        raise UnknownKey(f"{key!r:.80} is not among the failures of job {job}")
    return found


def fail(
    session: Session,
    job: uuid.UUID,
    ids: Sequence[int],
    reason: LedgerReason,
    message: str,
    *,
    kept_bytes: int = KEPT_BYTES,
) -> None:
    """List stored digits among a job's failures, their pixels kept there as far as `record` keeps them.

    One that is named twice has failed twice.
    """
    query = select(Digit.id, Digit.key, Digit.pixels, Digit.label, Digit.attributes)
    rows = {row.id: row for row in session.execute(query.where(Digit.id == func.any(list(ids))))}
    record(
        session,
        job,
        [
            FailedItem(row.key, reason, message, row.pixels, True, row.label, row.attributes)
            for row in (rows[id] for id in ids if id in rows)
        ],
        kept_bytes=kept_bytes,
    )


def waiting_for(session: Session, ids: Sequence[int]) -> dict[uuid.UUID, list[int]]:
    """Which of these digits stand in open batches, by the job whose caller waits for them."""
    listed = (
        select(Batch.job, func.unnest(Batch.digits).label("digit"))
        .join(Job, Job.id == Batch.job)
        .where(Batch.state.in_(OPEN), Job.kind == JobKind.EMBED)
        .subquery()
    )
    waiting: dict[uuid.UUID, list[int]] = defaultdict(list)
    for job, digit in session.execute(select(listed).where(listed.c.digit == func.any(list(ids)))):
        waiting[job].append(digit)
    return waiting
