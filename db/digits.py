"""Stored digits: their pixels by id, and their ids by key. It must not know the queue."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db.bulk import fetch, within
from db.errors import UnknownKey
from db.tables import Digit

PIXELS = 28 * 28


class Glyphs(NamedTuple):
    """ids: (n,) int64, ascending. pixels: (n, 784) uint8. made: (n,) bool, of something else than these pixels."""

    ids: np.ndarray[Any, Any]
    pixels: np.ndarray[Any, Any]
    made: np.ndarray[Any, Any]


def pixels_of(session: Session, ids: Sequence[int]) -> Glyphs:
    """Of those of the ids that still exist."""
    condition, parameters = within("id", sorted(ids))
    query = f"SELECT id, pixels, doubtful IS NOT NULL FROM digits WHERE {condition} ORDER BY id"
    rows = fetch(session, query, parameters)
    found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    pixels = np.frombuffer(b"".join([row[1] for row in rows]), np.uint8).reshape(-1, PIXELS)
    return Glyphs(found, pixels, np.fromiter((row[2] for row in rows), np.bool_, len(rows)))


def doubt(session: Session, ids: Sequence[int]) -> None:
    """Mark digits as looking like none."""
    those = select(Digit.id).where(Digit.id == func.any(list(ids))).order_by(Digit.id).with_for_update()
    session.execute(update(Digit).where(Digit.id.in_(those)).values(doubtful=True))


def doubtful_of(session: Session, job: uuid.UUID, *, after: str, limit: int) -> list[Digit]:
    """The stored digits that a job brought and that look like none, by key, after a key."""
    query = select(Digit).where(Digit.job == job, Digit.doubtful.is_(True), Digit.key > after).order_by(Digit.key)
    return list(session.execute(query.limit(limit)).scalars())


def find_all(session: Session, asked: Sequence[tuple[str, Sequence[str] | None]]) -> list[int]:
    """The id of the digit with each key, in one of its collections, or in any where they are None.

    Raises UnknownKey where there is none, or several.
    """
    storable = [key for key, _ in asked if "\0" not in key]  # PostgreSQL's text has no NUL
    query = "SELECT key, collection, id FROM digits WHERE key = ANY(%s::text[]) ORDER BY id"
    found: dict[str, dict[str, int]] = {}
    for key, collection, id in fetch(session, query, [storable], prepare=True):
        found.setdefault(key, {})[collection] = id
    return [_only_one(key, collections, found.get(key, {})) for key, collections in asked]


def _only_one(key: str, collections: Sequence[str] | None, found: dict[str, int]) -> int:
    """The one of these ids, by collection, that is in a collection which was asked for. Raises UnknownKey."""
    those = {name: id for name, id in found.items() if collections is None or name in collections}
    if not those:
        place = f" in the collection {' or '.join(map(repr, collections))}" if collections is not None else ""
        raise UnknownKey(f"no stored digit has the key {key!r}{place}")
    if len(those) > 1:
        names = ", ".join(map(repr, list(those)[:3]))
        raise UnknownKey(f"the key {key!r} stands in several collections ({names}): name one")
    return next(iter(those.values()))
