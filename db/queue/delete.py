"""Deleting digits: rows, vectors under every tower, judgements, and what was kept of their pictures.

It must not know callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete as remove
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import judgements, locks
from db.bulk import cursor, fetch
from db.learnt import Learners, learners
from db.queue.failures import fail, waiting_for
from db.tables import Digit, Embedding
from db.vectors import embeddings

AT_ONCE = 1_000  # digits that are deleted in one transaction: the workers that write vectors wait for its end


class Deleted(NamedTuple):
    """What went. vectors: under all towers. pictures: that failures had kept. judgements: of pairs with one of them.

    learners: what has learnt from one of them before.
    """

    digits: int
    vectors: int
    pictures: int
    judgements: int
    learners: Learners


def delete(session: Session, collection: str, keys: Sequence[str] | None) -> Deleted:
    """Delete the digits of these keys, or the first of a whole collection, at most AT_ONCE.

    Jobs that wait for one of them have a failure instead, which keeps no picture. Batches name digits by their ids,
    and an id is used once: what is in flight brings none of them back.
    """
    locks.change_keys(session, collection)
    query = select(Digit.id, Digit.key).where(Digit.collection == collection).order_by(Digit.id).limit(AT_ONCE)
    if keys is not None:
        query = query.where(Digit.key == func.any(list(keys)))
    rows = session.execute(query.with_for_update()).all()
    ids, found = [row.id for row in rows], [row.key for row in rows]
    vectors = session.execute(select(func.count()).where(Embedding.digit == func.any(ids))).scalar_one() if ids else 0
    judged = judgements.of_digits(session, ids) if ids else 0
    learnt = learners(session, ids) if ids else Learners([], [])
    if ids:
        locks.remove_digits(session)
        for job, lost in sorted(waiting_for(session, ids).items()):
            fail(session, job, lost, "deleted", "its digit was deleted before it had a vector", kept_bytes=0)
        embeddings.delete_vectors(session, ids)
        session.execute(remove(Digit).where(Digit.id == func.any(ids)))
    pictures = _forget_pictures(session, collection, found if keys is None else keys, whole=keys is None and not ids)
    return Deleted(len(ids), vectors, pictures, judged, learnt)


def remaining(session: Session, collection: str, keys: Sequence[str] | None) -> int:
    """How many digits of these keys, or of the collection, are stored: counted up to AT_ONCE."""
    condition, parameters = ("true", list[Any]()) if keys is None else ("key = ANY(%s::text[])", [list(keys)])
    rows = f"SELECT FROM digits WHERE collection = %s AND {condition} LIMIT {AT_ONCE}"
    ((count,),) = fetch(session, f"SELECT count(*) FROM ({rows}) AS counted", [collection, *parameters])
    return int(count)


def _forget_pictures(session: Session, collection: str, keys: Sequence[str], *, whole: bool) -> int:
    """Drop what failures of jobs into the collection kept under these keys, or under any; how many had a picture.

    A label and attributes may stand there without one.
    """
    those = "j.collection = %s AND f.job = j.id AND (%s OR f.key = ANY(%s::text[]))"
    counting = f"SELECT count(*) FROM failures AS f, jobs AS j WHERE {those} AND f.picture IS NOT NULL"
    ((count,),) = fetch(session, counting, [collection, whole, list(keys)])
    kept = "num_nonnulls(f.picture, f.label, f.attributes) > 0"
    nothing = "picture = NULL, label = NULL, attributes = NULL"
    query = f"UPDATE failures AS f SET {nothing} FROM jobs AS j WHERE {those} AND {kept}"
    with cursor(session, query) as driver:
        driver.execute(query, [collection, whole, list(keys)])
    return int(count)
