"""Stored digits and their vectors under one tower, a page at a time. It must not know what is looked for in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.bulk import fetch, sent_vectors
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
    rows = fetch(
        session,
        f"""
        SELECT d.id, d.key, d.collection, d.label, {"d.pixels" if pixels else "NULL::bytea"}, e.vector
        FROM digits AS d JOIN embeddings AS e ON e.tower = {tower} AND e.digit = d.id
        WHERE d.id > %s AND d.id <= %s AND {condition} ORDER BY d.id LIMIT %s
        """,
        [after, last, *parameters, limit],
    )
    ids, keys, collections, labels, pictures, vectors = map(list, zip(*rows, strict=True)) if rows else ([],) * 6
    end = ids[-1] if len(ids) == limit else last if ends else None
    return Page(ids, keys, collections, labels, pictures, sent_vectors(vectors), end)


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
