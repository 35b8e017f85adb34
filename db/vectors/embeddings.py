"""Stored vectors, always read and written under one tower: two towers' spaces never meet. It must not know jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from db.bulk import Places, Reals, as_array, copy_embeddings, fetch, sent_vectors, within
from db.errors import BadVectors, NotEmbedded
from db.states import TowerStatus
from db.tables import DIMENSIONS, Embedding, Tower
from db.vectors.filters import NO_LABEL, Described
from db.vectors.frame import UNPLACED, Frame
from db.vectors.frames import FRAMES


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


def write(session: Session, tower: int, stored: Described, vectors: np.ndarray[Any, Any]) -> None:
    """Store vectors (n, 128) float32 of digits; vectors that are there already stay.

    The caller holds `locks.hold_digits` since before it read what is `stored`: none of these digits may be deleted, and
    none get another label, meanwhile.
    """
    there = embedded_among(session, tower, stored.digits.tolist())
    append(session, tower, FRAMES.of(session, tower), stored, vectors, there)


def append(
    session: Session,
    tower: int,
    frame: Frame | None,
    stored: Described,
    vectors: np.ndarray[Any, Any],
    there: Collection[int],
    *,
    ends: bool = False,
) -> None:
    """As `write`, where the tower's frame and which digits have a vector already were looked up. ends: whether the
    transaction is committed with the vectors, if any are new."""
    if there:
        new = np.fromiter((id not in there for id in stored.digits.tolist()), np.bool_, len(vectors))
        stored, vectors = Described(*(each[new] for each in stored)), vectors[new]
    if not len(vectors):
        return
    if frame is None:
        copy_embeddings(session, tower, stored.digits, vectors, ends=ends)
        return
    cells, small = frame.place(vectors)
    order = np.argsort(cells, kind="stable")  # neighbours in the index are written one after the other
    places = Places(cells[order], small[order], stored.labels[order], stored.collections[order])
    copy_embeddings(session, tower, stored.digits[order], vectors[order], places, ends=ends)


_APPEND = f"""
    INSERT INTO embeddings (tower, digit, vector, cell, small, label, collection_hash)
    SELECT %s, id, vectors[{DIMENSIONS} * (n - 1) + 1 : {DIMENSIONS} * n]::vector, cell,
           CASE WHEN size > 0 THEN smalls[size * (n - 1) + 1 : size * n]::vector END, coalesce(label, {NO_LABEL}), hash
    FROM (SELECT %b::real[] AS vectors, %b::real[] AS smalls, %s::integer AS size) AS sent,
         unnest(%s::smallint[], %s::integer[]) WITH ORDINALITY AS new (cell, hash, n) JOIN given USING (n)
"""


def appending(
    tower: int, frame: Frame | None, hashes: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]
) -> tuple[str, Sequence[Any]]:
    """The statement that stores vectors of a few digits, which have none, with its parameters; as `append` does.

    The digits' `id` and `label` are in the rows of `given`, which are numbered by `n`, from 1. hashes: (n,) int32, of
    their collections.
    """
    cells, small = np.full(len(vectors), UNPLACED, np.int16), np.empty((len(vectors), 0), np.float32)
    if frame is not None:
        cells, small = frame.place(vectors)
    columns = (as_array(column.tolist()) for column in (cells, hashes))
    return _APPEND, (tower, Reals.of(vectors.ravel()), Reals.of(small.ravel()), small.shape[1], *columns)


def relabel(session: Session, labels: dict[int, int | None]) -> None:
    """Give vectors of these digits, by id, the label that their digits have now, under all towers.

    The caller holds `locks.remove_digits`: no vector may be written with the old label meanwhile.
    """
    for tower in _towers_with_vectors(session):
        session.execute(
            text("""
                UPDATE embeddings SET label = new.label
                FROM unnest(CAST(:digits AS bigint[]), CAST(:labels AS integer[])) AS new (digit, label)
                WHERE embeddings.tower = :tower AND embeddings.digit = new.digit
            """),
            {
                "tower": tower,
                "digits": list(labels),
                "labels": [NO_LABEL if label is None else label for label in labels.values()],
            },
        )


def embedded_among(session: Session, tower: int, digits: Sequence[int]) -> set[int]:
    """Which of these digits have a vector under the tower."""
    return {row[0] for row in fetch(session, *embedded_of(tower, digits))}


def embedded_of(tower: int, digits: Sequence[int]) -> tuple[str, Sequence[Any]]:
    """The query of `embedded_among`, with its parameters."""
    condition, parameters = within("digit", sorted(digits))
    return f"SELECT digit FROM embeddings WHERE tower = %s AND {condition}", (tower, *parameters)


def delete_vectors(session: Session, digits: Sequence[int]) -> None:
    """Delete every vector of these digits, under all towers."""
    for tower in _towers_with_vectors(session):
        session.execute(delete(Embedding).where(Embedding.tower == tower, Embedding.digit == func.any(list(digits))))


def _towers_with_vectors(session: Session) -> Sequence[int]:
    return session.execute(select(Tower.id).where(Tower.status != TowerStatus.RETIRED)).scalars().all()


def vectors_of(session: Session, tower: int, digits: Sequence[int]) -> np.ndarray[Any, Any]:
    """The stored vectors of these digits, (n, 128) float32. Raises NotEmbedded where one is missing."""
    query = "SELECT digit, vector FROM embeddings WHERE tower = %s AND digit = ANY(%s::bigint[])"
    found = dict(fetch(session, query, (tower, list(set(digits))), prepare=True))
    if len(found) < len(set(digits)):
        raise NotEmbedded("this digit is stored and not embedded yet: wait for its job")
    return sent_vectors([found[digit] for digit in digits])


def count(session: Session, tower: int) -> int:
    """How many vectors are stored under a tower."""
    return session.execute(select(func.count()).where(Embedding.tower == tower)).scalar_one()
