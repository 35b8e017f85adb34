"""The nearest stored digits of a vector, exactly. It must not know where the vector came from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from db.tables import Digit, Embedding


class Neighbour(NamedTuple):
    """A stored digit, and its Euclidean distance to what was asked for."""

    key: str
    collection: str
    distance: float
    label: int | None
    attributes: dict[str, Any] | None
    picture: bytes | None = None


WIDER = 8  # times k: how many of all collections are looked at for the k of one


def nearest(
    session: Session,
    tower: int,
    vector: np.ndarray[Any, Any],
    *,
    k: int,
    collection: str | None = None,
    leave_out: int | None = None,
) -> list[Neighbour]:
    """The k digits nearest to a vector (128,) by Euclidean distance under a tower, nearest first; ties: lower id first.

    Every stored vector is compared: there is no approximate index.
    """
    distance = Embedding.vector.l2_distance(vector)
    every = select(Embedding.digit, distance.label("distance")).where(Embedding.tower == tower)
    if leave_out is not None:
        every = every.where(Embedding.digit != leave_out)
    order = distance, Embedding.digit
    if collection is None:
        return _described(session, every.order_by(*order).limit(k))
    # The k nearest of a collection are most often among the nearest of all, which are found without reading every
    # digit's collection.
    wide = every.order_by(*order).limit(WIDER * k)
    found = _described(session, wide, collection)[:k]
    if len(found) == k:
        return found
    within = every.join(Digit, Digit.id == Embedding.digit).where(Digit.collection == collection)
    return _described(session, within.order_by(*order).limit(k))


def _described(session: Session, near: Select[Any], collection: str | None = None) -> list[Neighbour]:
    """Key, collection, distance, label and attributes of each (digit, distance), of one collection if it is named."""
    found = near.subquery()
    digits = select(Digit.key, Digit.collection, found.c.distance, Digit.label, Digit.attributes)
    if collection is not None:
        digits = digits.where(Digit.collection == collection)
    rows = session.execute(digits.join(found, found.c.digit == Digit.id).order_by(found.c.distance, Digit.id))
    return [Neighbour(*row) for row in rows]
