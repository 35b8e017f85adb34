"""Stored digits and their vectors under one tower, a page at a time. It must not know what is looked for in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.bulk import fetch, sent_vectors, within
from db.engine import STATEMENT_CANCELLED

PASSED = 20_000  # digits that a page passes at most: a tenth of a second
COUNTING = "1s"
_LAST_ID = 2**63 - 1


class Walk(NamedTuple):
    """Which digits are passed, in the order of their ids: of one collection or of all, with a label or all.

    every: of 1, all; else about one of so many, always the same: by a hash of the id, since the order in which digits
    were stored may follow their classes.
    """

    collection: str | None = None
    labelled: bool = False
    every: int = 1

    def where(self) -> tuple[str, list[Any]]:
        """A condition on `digits AS d`, and its parameters."""
        conditions, parameters = ["true"], list[Any]()
        if self.collection is not None:
            conditions.append("d.collection = %s")
            parameters.append(self.collection)
        if self.labelled:
            conditions.append("d.label IS NOT NULL")
        if self.every > 1:
            conditions.append("abs(hashint8(d.id)::bigint) %% %s = 0")
            parameters.append(self.every)
        return " AND ".join(conditions), parameters


class Page(NamedTuple):
    """Digits that have a vector, ascending by id, a row of `vectors` (n, 128) float32 each.

    end: the id up to which all were passed; None where that is the last one.
    """

    ids: list[int]
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    pixels: list[bytes | None]
    vectors: np.ndarray[Any, Any]
    end: int | None


def page(session: Session, tower: int, walk: Walk, *, after: int, limit: int, pixels: bool = False) -> Page:
    """The next digits after the id `after`, at most `limit`; those without a vector under the tower are passed over.

    At most PASSED are passed, however few of them are wanted: a page may be empty and not the last.
    """
    condition, parameters = walk.where()
    window = f"SELECT id FROM digits WHERE id > %s ORDER BY id OFFSET {PASSED - 1} LIMIT 1"
    ends = fetch(session, window, [after])
    last = ends[0][0] if ends else _LAST_ID
    # Bounds of both: the planner knows not that those of one are the other's, and would read all vectors for each page.
    passing = f"d.id > %s AND d.id <= %s AND e.digit > %s AND e.digit <= %s AND {condition} ORDER BY d.id LIMIT %s"
    rows = _rows(session, tower, passing, [after, last, after, last, *parameters, limit], pixels=pixels)
    return _page(rows, end=rows[-1][0] if len(rows) == limit else last if ends else None)


def with_keys(session: Session, tower: int, collection: str, keys: Sequence[str]) -> Page:
    """The digits with these keys that have a vector under the tower, in the order of the keys."""
    rows = _rows(session, tower, "d.collection = %s AND d.key = ANY(%s::text[])", [collection, list(keys)])
    place = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return _page(sorted(rows, key=lambda row: place[row[1]]), end=None)


def with_ids(session: Session, tower: int, ids: Sequence[int]) -> Page:
    """Those of these digits that have a vector under the tower, ascending by id."""
    condition, parameters = within("d.id", sorted(set(ids)))
    return _page(_rows(session, tower, f"{condition} ORDER BY d.id", parameters), end=None)


def count(session: Session, walk: Walk, *, most: int) -> int:
    """How many digits are passed, counted up to `most`; about how many are stored, where that would take long."""
    condition, parameters = walk.where()
    query = f"SELECT count(*) FROM (SELECT FROM digits AS d WHERE {condition} LIMIT %s) AS counted"
    try:
        with session.begin_nested():
            fetch(session, f"SELECT set_config('statement_timeout', '{COUNTING}', true)")
            ((found,),) = fetch(session, query, [*parameters, most])
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != STATEMENT_CANCELLED:
            raise
        estimate = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'digits'::regclass"
        ((found,),) = fetch(session, estimate)
    return min(int(found), most)


def _rows(
    session: Session, tower: int, condition: str, parameters: Sequence[Any], *, pixels: bool = False
) -> list[tuple[Any, ...]]:
    """The digits of a condition that have a vector under the tower, as `_page` takes them."""
    return fetch(
        session,
        f"""
        SELECT d.id, d.key, d.collection, d.label, {"d.pixels" if pixels else "NULL::bytea"}, e.vector
        FROM digits AS d JOIN embeddings AS e ON e.tower = {tower} AND e.digit = d.id
        WHERE {condition}
        """,
        parameters,
    )


def _page(rows: Sequence[tuple[Any, ...]], *, end: int | None) -> Page:
    ids, keys, collections, labels, pictures, vectors = map(list, zip(*rows, strict=True)) if rows else ([],) * 6
    return Page(ids, keys, collections, labels, pictures, sent_vectors(vectors), end)
