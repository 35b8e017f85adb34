"""Stored pictures."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db import embeddings, locks
from db.binary import fetch, within
from db.errors import UnknownKey
from db.failures import FailedItem, record
from db.tables import Batch, Digit, Job

PIXELS = 28 * 28


def pixels_of(session: Session, ids: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids that still exist, ascending, (n,) int64, and their pixels in the same order, (n, 784) uint8."""
    condition, parameters = within("id", sorted(ids))
    rows = fetch(session, f"SELECT id, pixels FROM digits WHERE {condition} ORDER BY id", parameters)
    found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    pixels = np.frombuffer(b"".join([row[1] for row in rows]), np.uint8).reshape(-1, PIXELS)
    return found, pixels


def existing(session: Session, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n,) ids, ascending -> (n,) bool: which of these digits are stored."""
    condition, parameters = within("id", ids.tolist())
    ((count,),) = fetch(session, f"SELECT count(*) FROM digits WHERE {condition}", parameters)
    if count == len(ids):
        return np.ones(len(ids), np.bool_)
    rows = fetch(session, f"SELECT id FROM digits WHERE {condition}", parameters)
    return np.isin(ids, [row[0] for row in rows])


def find(session: Session, key: str, collection: str | None) -> int:
    """The id of the digit with this key. Raises UnknownKey where there is none, or several and no collection."""
    query = select(Digit.id, Digit.collection).where(Digit.key == key)
    if collection is not None:
        query = query.where(Digit.collection == collection)
    storable = "\0" not in f"{key}{collection}"  # SQL has no NUL: it would refuse to look
    rows = session.execute(query.limit(3)).all() if storable else []
    if not rows:
        place = f" in the collection {collection!r}" if collection is not None else ""
        raise UnknownKey(f"no stored digit has the key {key!r}{place}")
    if len(rows) > 1:
        names = ", ".join(repr(row.collection) for row in rows)
        raise UnknownKey(f"the key {key!r} stands in several collections ({names}): name one")
    return int(rows[0].id)


def abandon(session: Session, ids: Sequence[int], reason: str, message: str) -> None:
    """Forget digits whose row locks the caller holds, and their vectors.

    Each is a failure, its pixels kept there, of every job that still waits for its vector.
    """
    locks.drop_digits(session)
    for job, lost in sorted(waiting_for(session, ids).items()):
        fail(session, job, lost, reason, message)
    embeddings.forget(session, ids)
    session.execute(delete(Digit).where(Digit.id == func.any(list(ids))))


def fail(session: Session, job: uuid.UUID, ids: Sequence[int], reason: str, message: str) -> None:
    """List stored digits among a job's failures, their pixels kept there."""
    query = select(Digit.key, Digit.pixels, Digit.label, Digit.attributes).where(Digit.id == func.any(list(ids)))
    rows = session.execute(query).all()
    record(
        session,
        job,
        [FailedItem(row.key, reason, message, row.pixels, True, row.label, row.attributes) for row in rows],
    )


def waiting_for(session: Session, ids: Sequence[int]) -> dict[uuid.UUID, list[int]]:
    """Which of these digits stand in open batches, by the job whose caller waits for them."""
    listed = (
        select(Batch.job, func.unnest(Batch.digits).label("digit"))
        .join(Job, Job.id == Batch.job)
        .where(Batch.state.in_(["queued", "leased"]), Job.kind == "embed")
        .subquery()
    )
    waiting: dict[uuid.UUID, list[int]] = defaultdict(list)
    for job, digit in session.execute(select(listed).where(listed.c.digit == func.any(list(ids)))):
        waiting[job].append(digit)
    return waiting
