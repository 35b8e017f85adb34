"""Stored digits: their pixels by id, and their ids by key. It must not know vectors or the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.bulk import fetch, within
from db.errors import UnknownKey
from db.tables import Digit

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
    storable = "\0" not in f"{key}{collection}"  # PostgreSQL's text has no NUL: the query would be an error
    rows = session.execute(query.limit(3)).all() if storable else []
    if not rows:
        place = f" in the collection {collection!r}" if collection is not None else ""
        raise UnknownKey(f"no stored digit has the key {key!r}{place}")
    if len(rows) > 1:
        names = ", ".join(repr(row.collection) for row in rows)
        raise UnknownKey(f"the key {key!r} stands in several collections ({names}): name one")
    return int(rows[0].id)
