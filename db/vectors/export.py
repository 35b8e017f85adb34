"""All vectors of one tower, of one moment, in pages of bounded size. It must not know where they go."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from db.bulk import copied, fetch, read_described
from db.engine import without_limit
from db.errors import NoTower
from db.states import TowerStatus
from db.tables import Tower
from db.vectors.filters import NO_LABEL

PAGE = 8192  # vectors of a page: 4 MB


class Page(NamedTuple):
    """keys, collections: n of each. labels: (n,) int32, NO_LABEL for none. vectors: (n, 128) float32."""

    keys: list[str]
    collections: list[str]
    labels: np.ndarray[Any, Any]
    vectors: np.ndarray[Any, Any]


class Extent(NamedTuple):
    """How many vectors there are, and the characters of the longest key and collection among them."""

    vectors: int
    key: int
    collection: int


def begin(session: Session) -> None:
    """Prepare a transaction, before its first statement: all of it sees the store at one moment, however long it lasts.

    Nothing is locked. What is deleted meanwhile takes its place on disk until the transaction ends.
    """
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    without_limit(session.connection())


def exported(session: Session, named: str | None) -> tuple[int, str]:
    """(id, fingerprint) of the live tower, or of the one with this id or with a fingerprint that begins so.

    Raises NoTower where there is none, where several begin so, and where its vectors are gone.
    """
    query = select(Tower.id, Tower.fingerprint, Tower.status)
    if named is None:
        found = session.execute(query.where(Tower.status == TowerStatus.LIVE)).all()
    else:
        rows = session.execute(query).all()
        found = [row for row in rows if str(row.id) == named] or [
            row for row in rows if row.fingerprint.startswith(named.lower())
        ]
    if len(found) != 1:
        which = "is live yet: train one with `twinvec train`" if named is None else f"is called {named!r:.80}"
        raise NoTower(f"no tower {which}" if not found else f"{len(found)} towers begin with {named!r:.80}")
    ((id, fingerprint, status),) = found
    if status in (TowerStatus.RETIRED, TowerStatus.REJECTED):
        raise NoTower(f"tower {id} is {status}: its vectors are not kept")
    return id, fingerprint


def extent(session: Session, tower: int, collection: str | None) -> Extent:
    """What `pages` will give in all, in the same transaction."""
    columns = "count(*), coalesce(max(char_length(d.key)), 0), coalesce(max(char_length(d.collection)), 0)"
    ((vectors, key, longest),) = fetch(session, _wanted(session, tower, collection, columns))
    return Extent(int(vectors), int(key), int(longest))


def pages(session: Session, tower: int, collection: str | None) -> Iterator[Page]:
    """Every vector of the tower, or of a collection, ascending by the ids of their digits."""
    columns = f"coalesce(d.label, {NO_LABEL}), e.vector, d.collection, d.key"
    rows = copied(session, _wanted(session, tower, collection, columns) + " ORDER BY d.id")
    while some := list(islice(rows, PAGE)):
        labels, vectors, collections, keys = read_described(some)
        yield Page(keys, collections, labels, vectors)


def _wanted(session: Session, tower: int, collection: str | None, columns: str) -> str:
    """A query without parameters, which COPY does not take: the collection is a setting of this transaction."""
    # Both indexes are read in the order of ids, side by side: a hash or a sort of all vectors would go to disk.
    for plan in ("enable_seqscan", "enable_hashjoin", "enable_sort"):
        session.execute(select(func.set_config(plan, "off", True)))
    joined = f"SELECT {columns} FROM digits AS d JOIN embeddings AS e ON e.tower = {tower} AND e.digit = d.id"
    if collection is None:
        return joined
    session.execute(select(func.set_config("twinvec.exported", collection, True)))
    return f"{joined} WHERE d.collection = current_setting('twinvec.exported')"
