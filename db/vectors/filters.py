"""What limits a search to some of the digits, and what of a digit's row it needs. It must not know vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from db.bulk import fetch, within

NO_LABEL = -1


def collection_hash(name: str) -> int:
    """32 bits of a collection's name, as vectors carry it: a filter by it may let others through, and misses none."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big", signed=True)


class Described(NamedTuple):
    """Stored digits, ascending, and what search filters by. digits: (n,) int64 ids. labels: (n,) int32, NO_LABEL for
    none. collections: (n,) int32, hashes.
    """

    digits: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    collections: np.ndarray[Any, Any]


def described(session: Session, ids: np.ndarray[Any, Any]) -> Described:
    """(n,) ids, ascending -> those that are stored, ascending, with what search filters by."""
    return read_described(fetch(session, *describing(ids)))


def describing(ids: np.ndarray[Any, Any]) -> tuple[str, Sequence[Any]]:
    """The query, with its parameters, whose rows `read_described` reads."""
    condition, parameters = within("id", ids.tolist())
    query = f"""
        SELECT collection, string_agg(int8send(id) || int4send(coalesce(label, {NO_LABEL})), '')
        FROM digits WHERE {condition} GROUP BY collection
    """  # as bytes: a row object for each digit would cost as much as its vector
    return query, parameters


def read_described(groups: Sequence[tuple[Any, ...]]) -> Described:
    kind = np.dtype([("id", ">i8"), ("label", ">i4")])
    of = [(name, np.frombuffer(rows, kind)) for name, rows in groups]
    found = np.concatenate([np.empty(0, kind), *(rows for _, rows in of)])
    hashes = np.repeat(np.array([collection_hash(name) for name, _ in of], np.int32), [len(rows) for _, rows in of])
    order = np.argsort(found["id"])
    return Described(*(each[order] for each in (found["id"].astype(np.int64), found["label"].astype(np.int32), hashes)))


class Filters(NamedTuple):
    """Digits of one of these collections, of this label, whose attributes contain this JSON object; None for any."""

    collections: tuple[str, ...] | None = None
    label: int | None = None
    attributes: str | None = None

    def of_vectors(self, alias: str) -> tuple[str, list[Any]]:
        """A condition on placed rows of `embeddings`, with its parameters, that none of these digits fails."""
        conditions, parameters = [], list[Any]()
        if self.label is not None:
            conditions.append(f"{alias}.label = %s")
            parameters.append(self.label)
        if self.collections is not None:
            conditions.append(f"{alias}.collection_hash = ANY(%s::integer[])")
            parameters.append(self.hashes())
        return " AND ".join(conditions) or "true", parameters

    def of_digits(self, alias: str) -> tuple[str, list[Any]]:
        """A condition on rows of `digits`, with its parameters: exactly these."""
        conditions, parameters = [], list[Any]()
        if self.label is not None:
            conditions.append(f"{alias}.label = %s")
            parameters.append(self.label)
        if self.collections is not None:
            conditions.append(f"{alias}.collection = ANY(%s::text[])")
            parameters.append(list(self.collections))
        if self.attributes is not None:
            conditions.append(f"{alias}.attributes @> %s::jsonb")
            parameters.append(self.attributes)
        return " AND ".join(conditions) or "true", parameters

    def hashes(self) -> list[int]:
        return [collection_hash(name) for name in self.collections or ()]
