"""Stored vectors, always read and written under one tower: two towers' spaces never meet. It must not know jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from db.bulk import copy_embeddings, fetch, within
from db.errors import BadVectors, NotEmbedded
from db.states import TowerStatus
from db.tables import DIMENSIONS, Embedding, Tower


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
    """Store vectors (n, 128) float32 of digits (n,), ascending; vectors that are there already stay.

    The caller holds `locks.hold_digits`: none of these digits may be deleted meanwhile.
    """
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


def delete_vectors(session: Session, digits: Sequence[int]) -> None:
    """Delete every vector of these digits, under all towers."""
    towers = select(Tower.id).where(Tower.status != TowerStatus.RETIRED)
    for tower in session.execute(towers).scalars().all():
        session.execute(delete(Embedding).where(Embedding.tower == tower, Embedding.digit == func.any(list(digits))))


def vector_of(session: Session, tower: int, digit: int) -> np.ndarray[Any, Any]:
    """A stored vector (128,) float32. Raises NotEmbedded."""
    query = select(Embedding.vector).where(Embedding.tower == tower, Embedding.digit == digit)
    vector = session.execute(query).scalar()
    if vector is None:
        raise NotEmbedded("this digit is stored and not embedded yet: wait for its job")
    return np.asarray(vector, np.float32)


def count(session: Session, tower: int) -> int:
    """How many vectors are stored under a tower."""
    return session.execute(select(func.count()).where(Embedding.tower == tower)).scalar_one()
