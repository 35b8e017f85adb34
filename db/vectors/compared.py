"""What two towers are compared on: the same digits under both. Read alone; it must not know what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.bulk import fetch, sent_vectors
from db.holdout import held_out
from db.tables import Digit
from db.vectors import search
from db.vectors.frames import FRAMES
from db.vectors.search import Query, Wanted

Array = np.ndarray[Any, Any]


class Both(NamedTuple):
    """ids: (n,) int64, those of the digits that have a vector under each of the towers. vectors: (n, 128) float32, by
    tower."""

    ids: Array
    vectors: dict[int, Array]


def both(session: Session, towers: Sequence[int], ids: Sequence[int]) -> Both:
    """The stored vectors of digits under several towers; digits that lack one are left out."""
    query = "SELECT digit, vector FROM embeddings WHERE tower = %s AND digit = ANY(%s::bigint[])"
    found = {tower: dict(fetch(session, query, (tower, list(set(ids))))) for tower in towers}
    shared = sorted(set.intersection(*(set(each) for each in found.values())))
    return Both(
        np.array(shared, np.int64),
        {tower: sent_vectors([each[id] for id in shared]) for tower, each in found.items()},
    )


def held_out_digits(session: Session, most: int) -> dict[int, int]:
    """The labels of held-out digits by id, at most so many, always the same ones."""
    query = (
        select(Digit.id, Digit.label)
        .where(Digit.label.isnot(None), held_out(Digit.key))
        .order_by(func.hashtextextended(Digit.key, 0), Digit.id)
        .limit(most)
    )
    return {row.id: row.label for row in session.execute(query)}


def some_digits(session: Session, tower: int, count: int, seed: int) -> list[int]:
    """Digits that have a vector under a tower, at most so many, from all over the store: each the next one after a
    random id."""
    ((first, last),) = fetch(session, "SELECT min(digit), max(digit) FROM embeddings WHERE tower = %s", (tower,))
    if first is None:
        return []
    points = np.random.default_rng(seed).integers(first, last + 1, count).tolist()
    query = """
        SELECT DISTINCT found.digit FROM unnest(%s::bigint[]) AS given (point) CROSS JOIN LATERAL (
            SELECT digit FROM embeddings WHERE tower = %s AND digit >= point ORDER BY digit LIMIT 1
        ) AS found
    """
    return sorted(id for (id,) in fetch(session, query, (points, tower)))


def neighbours(
    session: Session, tower: int, queries: Array, k: int, *, leave_out: Sequence[int] | None = None
) -> list[list[search.Neighbour]]:
    """The k nearest digits of vectors (n, 128) under a tower. leave_out: an id for each.

    In a transaction that `search.begin` has begun.
    """
    asked = [Query(vector, leave_out=None if leave_out is None else leave_out[at]) for at, vector in enumerate(queries)]
    found = search.nearest(session, tower, FRAMES.of(session, tower), asked, Wanted(k))
    return [each.neighbours for each in found]
