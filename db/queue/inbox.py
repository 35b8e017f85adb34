"""Chunks of pictures that applications have left in the database, in transactions of their own.

A worker holds one for a time while it takes it in. It must not know what a chunk holds.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db.tables import Inbox


class Left(NamedTuple):
    """A chunk that was left, and how often it was taken up, this time included."""

    id: int
    message: bytes
    attempts: int


def _free() -> tuple[ColumnElement[bool], ...]:
    return Inbox.refused.is_(None), or_(Inbox.taken_until.is_(None), Inbox.taken_until < func.now())


def is_waiting(session: Session) -> bool:
    """Whether there is a chunk that nobody holds."""
    return bool(session.execute(select(exists(select(Inbox.id).where(*_free())))).scalar_one())


def count(session: Session) -> int:
    """How many chunks wait or are being taken in."""
    return session.execute(select(func.count()).where(Inbox.refused.is_(None))).scalar_one()


def take(session: Session, *, seconds: float) -> Left | None:
    """Hold the oldest chunk that nobody holds, for some seconds; None where there is none."""
    oldest = select(Inbox.id).where(*_free()).order_by(Inbox.id).limit(1).with_for_update(skip_locked=True)
    taken = (
        update(Inbox)
        .where(Inbox.id == oldest.scalar_subquery())
        .values(attempts=Inbox.attempts + 1, taken_until=func.now() + timedelta(seconds=seconds))
        .returning(Inbox.id, Inbox.message, Inbox.attempts)
    )
    row = session.execute(taken).one_or_none()
    return None if row is None else Left(*row)


def give_back(session: Session, id: int) -> None:
    """Let a chunk be taken up again, as if it had not been."""
    session.execute(update(Inbox).where(Inbox.id == id).values(attempts=Inbox.attempts - 1, taken_until=None))


def remove(session: Session, id: int) -> None:
    """A chunk that stands in the ledger."""
    session.execute(delete(Inbox).where(Inbox.id == id))


def refuse(session: Session, id: int, why: str) -> None:
    """Keep a chunk that cannot be taken in, with the reason; it is not tried again."""
    session.execute(update(Inbox).where(Inbox.id == id).values(refused=why))


def left_at(session: Session, job: uuid.UUID) -> str | None:
    """When the first chunk of a job was left, ISO 8601; None where none waits."""
    at = session.execute(select(func.min(Inbox.created_at)).where(Inbox.job == job)).scalar()
    return None if at is None else at.isoformat()
