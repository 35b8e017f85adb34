"""Vectors: one space a tower, kept apart by partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from db.binary import fetch, within
from db.copying import copy_embeddings
from db.errors import BadVectors, NotEmbedded
from db.tables import DIMENSIONS, Digit, Embedding, Tower

WIDER = 8  # times k: how many of all collections are looked at for the k of one


def open_space(session: Session, tower: int) -> None:
    """Make the partition that holds a tower's vectors, with one open segment for every digit id.

    It blocks no reader and no writer.
    """
    session.execute(select(func.open_space(tower)))


def close_space(session: Session, tower: int) -> None:
    """Drop a tower's vectors. Waits for whoever reads or writes embeddings, and makes later ones wait."""
    session.execute(select(func.close_space(tower)))


def check(tower: int, digits: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]) -> None:
    """Raises ValueError unless vectors of the digits (n,) are (n, 128) float32, BadVectors unless all are finite."""
    if vectors.shape != (len(digits), DIMENSIONS) or vectors.dtype != np.float32:
        raise ValueError(
            f"tower {tower} gave {vectors.dtype} of shape {vectors.shape} for {len(digits)} digits: "
            f"expected {DIMENSIONS} float32 each"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise BadVectors(tower, digits[~finite].tolist())


def write(session: Session, tower: int, digits: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]) -> None:
    """Store vectors (n, 128) float32 of digits (n,), ascending, that the caller holds; those there already stay."""
    there = embedded_among(session, tower, digits.tolist())
    if there:
        new = np.fromiter((id not in there for id in digits.tolist()), np.bool_, len(digits))
        digits, vectors = digits[new], vectors[new]
    if len(digits):
        copy_embeddings(session, tower, digits, vectors)


def embedded_among(session: Session, tower: int, digits: Sequence[int]) -> set[int]:
    """Which of these digits have a vector under the tower."""
    condition, parameters = within("digit", sorted(digits))
    query = f"SELECT digit FROM embeddings WHERE tower = %s AND {condition}"
    return {row[0] for row in fetch(session, query, (tower, *parameters))}


def forget(session: Session, digits: Sequence[int]) -> None:
    """Delete every vector of these digits, under whichever tower."""
    towers = select(Tower.id).where(Tower.status != "retired")
    for tower in session.execute(towers).scalars().all():
        session.execute(delete(Embedding).where(Embedding.tower == tower, Embedding.digit == func.any(list(digits))))


def vector_of(session: Session, tower: int, digit: int) -> np.ndarray[Any, Any]:
    """A stored vector (128,) float32. Raises NotEmbedded."""
    query = select(Embedding.vector).where(Embedding.tower == tower, Embedding.digit == digit)
    vector = session.execute(query).scalar()
    if vector is None:
        raise NotEmbedded("this digit is stored and its vector is still owed: wait for its job")
    return np.asarray(vector, np.float32)


def nearest(
    session: Session,
    tower: int,
    vector: np.ndarray[Any, Any],
    *,
    k: int,
    collection: str | None = None,
    leave_out: int | None = None,
) -> list[dict[str, Any]]:
    """The k digits nearest to a vector (128,) by Euclidean distance under a tower; of equals the earlier stored first.

    Every stored vector is compared: no segment has an approximate index.
    """
    distance = Embedding.vector.l2_distance(vector)
    every = select(Embedding.digit, distance.label("distance")).where(Embedding.tower == tower)
    if leave_out is not None:
        every = every.where(Embedding.digit != leave_out)
    order = distance, Embedding.digit
    if collection is None:
        return _described(session, every.order_by(*order).limit(k))
    # The k nearest of a collection are most often among the nearest of all, which are found without looking at
    # every digit's collection.
    wide = every.order_by(*order).limit(WIDER * k)
    found = _described(session, wide, collection)[:k]
    if len(found) == k:
        return found
    within = every.join(Digit, Digit.id == Embedding.digit).where(Digit.collection == collection)
    return _described(session, within.order_by(*order).limit(k))


def _described(session: Session, near: Select[Any], collection: str | None = None) -> list[dict[str, Any]]:
    """What the caller learns of each (digit, distance), of one collection where that is named."""
    found = near.subquery()
    digits = select(Digit.key, Digit.collection, found.c.distance, Digit.label, Digit.attributes)
    if collection is not None:
        digits = digits.where(Digit.collection == collection)
    rows = session.execute(digits.join(found, found.c.digit == Digit.id).order_by(found.c.distance, Digit.id))
    return [dict(row._mapping) for row in rows]


def count(session: Session, tower: int) -> int:
    """How many vectors are stored under a tower."""
    return session.execute(select(func.count()).where(Embedding.tower == tower)).scalar_one()
