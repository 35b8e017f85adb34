"""Pictures that were not embedded."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Failure


class FailedItem(NamedTuple):
    """A key, a stable reason code, a sentence, and the bytes at fault where there are any."""

    key: str
    reason: str
    message: str
    picture: bytes | None


def record(session: Session, job: uuid.UUID, items: Sequence[FailedItem]) -> None:
    """Note failures of a job. The same key again counts as one more attempt."""
    if not items:
        return
    # One statement cannot touch a row twice, and a job may repeat a key.
    by_key: dict[str, list[FailedItem]] = {}
    for item in items:
        by_key.setdefault(item.key, []).append(item)
    statement = insert(Failure).values(
        [
            {
                "job": job,
                **same[-1]._asdict(),
                "attempts": len(same),
                "message": same[-1].message.replace("\0", ""),
            }
            for _, same in sorted(by_key.items())
        ]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["job", "key"],
            set_={
                "reason": statement.excluded.reason,
                "message": statement.excluded.message,
                "picture": statement.excluded.picture,
                "attempts": Failure.attempts + statement.excluded.attempts,
            },
        )
    )


def page(session: Session, job: uuid.UUID, *, after: str, limit: int) -> list[Failure]:
    """At most `limit` failures of a job, by key, after the key `after`; without the pictures."""
    query = select(Failure).where(Failure.job == job, Failure.key > after).order_by(Failure.key).limit(limit)
    return list(session.execute(query).scalars())
