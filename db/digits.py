"""Stored digits: their pixels by id, and their ids by key. It must not know the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db.bulk import fetch, within
from db.errors import UnknownKey

PIXELS = 28 * 28


def pixels_of(session: Session, ids: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids that still exist, ascending, (n,) int64, and their pixels in the same order, (n, 784) uint8."""
    condition, parameters = within("id", sorted(ids))
    rows = fetch(session, f"SELECT id, pixels FROM digits WHERE {condition} ORDER BY id", parameters)
    found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    pixels = np.frombuffer(b"".join([row[1] for row in rows]), np.uint8).reshape(-1, PIXELS)
    return found, pixels


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
