"""Stored digits: by id, by key, a page at a time; their labels and attributes. It must not know the queue."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select, true, update
from sqlalchemy.orm import Session

from db import locks
from db.bulk import fetch, fetch_each, within
from db.errors import UnknownKey
from db.tables import Digit
from db.vectors import embeddings

PIXELS = 28 * 28
PAGE_READ = 20_000  # digits that a page reads at most: a tenth of a second
STORED = "id, key, collection, label, attributes::text, doubtful"


class Glyphs(NamedTuple):
    """ids: (n,) int64, ascending. pixels: (n, 784) uint8. made: (n,) bool, of something else than these pixels."""

    ids: np.ndarray[Any, Any]
    pixels: np.ndarray[Any, Any]
    made: np.ndarray[Any, Any]


def pixels_of(session: Session, ids: Sequence[int], *, ends: bool = False) -> Glyphs:
    """Of those of the ids that still exist. ends: whether the transaction is committed with it."""
    condition, parameters = within("id", sorted(ids))
    query = f"""
        SELECT coalesce(string_agg(int8send(id), ''), ''), coalesce(string_agg(pixels, ''), ''),
               coalesce(string_agg(boolsend(doubtful IS NOT NULL), ''), '')
        FROM digits WHERE {condition}
    """  # as bytes: a row object for each digit costs as much as to read it
    (((sent, pixels, made),),) = fetch_each(session, [(query, parameters)], ends=ends)
    found = np.frombuffer(sent, ">i8").astype(np.int64)
    glyphs = Glyphs(found, np.frombuffer(pixels, np.uint8).reshape(-1, PIXELS), np.frombuffer(made, np.bool_))
    if np.all(found[1:] > found[:-1]):
        return glyphs
    order = np.argsort(found)
    return Glyphs(*(column[order] for column in glyphs))


def doubt(session: Session, ids: Sequence[int]) -> None:
    """Mark digits as looking like none."""
    those = select(Digit.id).where(Digit.id == func.any(list(ids))).order_by(Digit.id).with_for_update()
    session.execute(update(Digit).where(Digit.id.in_(those)).values(doubtful=True))


def doubtful_of(session: Session, job: uuid.UUID, *, after: str, limit: int) -> list[Digit]:
    """The stored digits that a job brought and that look like none, by key, after a key."""
    query = select(Digit).where(Digit.job == job, Digit.doubtful == true(), Digit.key > after).order_by(Digit.key)
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


class Stored(NamedTuple):
    """A digit as it is listed. attributes: JSON, as text. doubtful: None where it was not asked."""

    id: int
    key: str
    collection: str
    label: int | None
    attributes: str | None
    doubtful: bool | None
    picture: bytes | None


def stored_page(
    session: Session, *, collection: str | None, label: int | None, after: int, limit: int, pictures: bool
) -> tuple[list[Stored], int | None]:
    """The next digits by id after an id, of a collection and with a label where these are given; and the id up to which
    all were passed, None where that is the last one. At most PAGE_READ are read: a page may be empty and not the last.
    """
    ends = fetch(session, f"SELECT id FROM digits WHERE id > %s ORDER BY id OFFSET {PAGE_READ - 1} LIMIT 1", [after])
    conditions, parameters = ["id > %s"], [after]
    given: list[tuple[str, Any]] = [("id <= %s", ends[0][0] if ends else None), ("collection = %s", collection)]
    for condition, value in [*given, ("label = %s", label)]:
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    pixels = "pixels" if pictures else "NULL::bytea"
    query = f"SELECT {STORED}, {pixels} FROM digits WHERE {' AND '.join(conditions)} ORDER BY id LIMIT %s"
    rows = [Stored(*row) for row in fetch(session, query, [*parameters, limit])]
    end = rows[-1].id if len(rows) == limit else ends[0][0] if ends else None
    return rows, end


def with_keys(session: Session, collection: str, keys: Sequence[str], *, pictures: bool) -> list[Stored]:
    """Those of a collection that are stored, in the order of the keys."""
    pixels = "pixels" if pictures else "NULL::bytea"
    query = f"SELECT {STORED}, {pixels} FROM digits WHERE collection = %s AND key = ANY(%s::text[])"
    found = {row[1]: Stored(*row) for row in fetch(session, query, [collection, list(keys)])}
    return [found[key] for key in dict.fromkeys(keys) if key in found]


def collections(session: Session) -> list[tuple[str, int, int]]:
    """(name, digits, of them with a label) of every collection, by name."""
    query = "SELECT collection, count(*), count(label) FROM digits GROUP BY collection ORDER BY collection"
    return [(name, int(count), int(labelled)) for name, count, labelled in fetch(session, query)]


def annotate(
    session: Session, collection: str, labels: dict[str, int | None], attributes: dict[str, dict[str, Any] | None]
) -> list[str]:
    """Give stored digits other labels, other attributes, or both, by key; the keys that are stored."""
    keys = sorted({*labels, *attributes})
    query = select(Digit.id, Digit.key, Digit.label).where(Digit.collection == collection, Digit.key == func.any(keys))
    rows = session.execute(query.order_by(Digit.id).with_for_update()).all()
    relabelled = {row.id: labels[row.key] for row in rows if row.key in labels and labels[row.key] != row.label}
    if relabelled:
        locks.remove_digits(session)  # else a vector may be written beside it, with the old label
        changes = [{"id": id, "label": label} for id, label in relabelled.items()]
        session.execute(update(Digit), changes)
        embeddings.relabel(session, relabelled)
    described = [{"id": row.id, "attributes": attributes[row.key]} for row in rows if row.key in attributes]
    if described:
        session.execute(update(Digit), described)
    return [row.key for row in rows]
