"""Stored digits and their vectors under one tower, a page at a time. It must not know what is looked for in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from db.bulk import fetch, sent_vectors


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
    """Digits that have a vector, ascending by id, a row of `vectors` (n, 128) float32 each."""

    ids: list[int]
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    pixels: list[bytes | None]
    vectors: np.ndarray[Any, Any]


def page(session: Session, tower: int, walk: Walk, *, after: int, limit: int, pixels: bool = False) -> Page:
    """The next digits after the id `after`, at most `limit`; those without a vector under the tower are passed over."""
    condition, parameters = walk.where()
    rows = fetch(
        session,
        f"""
        SELECT d.id, d.key, d.collection, d.label, {"d.pixels" if pixels else "NULL::bytea"}, e.vector
        FROM digits AS d JOIN embeddings AS e ON e.tower = {tower} AND e.digit = d.id
        WHERE d.id > %s AND {condition} ORDER BY d.id LIMIT %s
        """,
        [after, *parameters, limit],
    )
    ids, keys, collections, labels, pictures, vectors = map(list, zip(*rows, strict=True)) if rows else ([],) * 6
    return Page(ids, keys, collections, labels, pictures, sent_vectors(vectors))


def count(session: Session, walk: Walk, *, most: int) -> int:
    """How many digits are passed, counted up to `most`."""
    condition, parameters = walk.where()
    query = f"SELECT count(*) FROM (SELECT FROM digits AS d WHERE {condition} LIMIT %s) AS counted"
    ((found,),) = fetch(session, query, [*parameters, most])
    return int(found)
