"""Labelled digits and judged pairs to learn from; what is held out never. It must not know a model.

What is held out is the picture: where one digit with it is, every other one and every image of a data set is as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import literal_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.bulk import fetch
from db.holdout import held_out

PAGE = 20_000  # rows that a page reads: a tenth of a second
SHARES = 2**20  # that digits are in, by a hash of their ids


def _held(column: str) -> str:
    """Whether the digit whose key stands in a column is held out, if it has a label; as text."""
    expression = held_out(literal_column(column)).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's, without types
        compile_kwargs={"literal_binds": True},
    )
    return str(expression)


_HELD = _held("key")


class Page(NamedTuple):
    """Of some digits with a label those to learn from, and the pixels of those that are held out, as SHA-256.

    ids, labels: (n,) int64, ids ascending. digests: of their pixels. upto: all digits up to this id were looked at;
    None where these were the last.
    """

    ids: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    digests: list[bytes]
    held: set[bytes]
    upto: int | None


def page(session: Session, *, after: int, share: int = SHARES) -> Page:
    """The next PAGE digits after an id. share: how many of SHARES parts are taken of those to learn from."""
    upto = _end(session, after)
    query = f"""
        SELECT id, label, sha256, {_HELD} FROM digits
        WHERE id > %s AND id <= %s AND label IS NOT NULL
            AND ({_HELD} OR (hashint8extended(id, 0) & {SHARES - 1}) < %s)
        ORDER BY id
    """
    rows = fetch(session, query, [after, 2**63 - 1 if upto is None else upto, share])
    own = [row for row in rows if not row[3]]
    return Page(
        ids=np.fromiter((row[0] for row in own), np.int64, len(own)),
        labels=np.fromiter((row[1] for row in own), np.int64, len(own)),
        digests=[bytes(row[2]) for row in own],
        held={bytes(row[2]) for row in rows if row[3]},
        upto=upto,
    )


def count(session: Session, *, after: int) -> tuple[int, int | None]:
    """How many of the next PAGE digits there are to learn from, and up to which id they go, as `page` says it."""
    upto = _end(session, after)
    query = f"SELECT count(*) FROM digits WHERE id > %s AND id <= %s AND label IS NOT NULL AND NOT {_HELD}"
    return fetch(session, query, [after, 2**63 - 1 if upto is None else upto])[0][0], upto


class Judged(NamedTuple):
    """pairs: (2p,) int64, two digits for each. digests: (2p,) of their pixels, SHA-256. same: (p,) bool."""

    pairs: np.ndarray[Any, Any]
    digests: list[bytes]
    same: np.ndarray[Any, Any]


def judged(session: Session, *, most: int) -> Judged:
    """The newest judged pairs, in the order of their ids, none with a digit that is held out."""
    query = f"""
        SELECT a.id, a.sha256, b.id, b.sha256, same FROM judgements
        JOIN digits a ON a.id = first JOIN digits b ON b.id = second
        WHERE NOT (a.label IS NOT NULL AND {_held("a.key")}) AND NOT (b.label IS NOT NULL AND {_held("b.key")})
        ORDER BY judgements.id DESC LIMIT %s
    """
    rows = fetch(session, query, [most])[::-1]
    return Judged(
        pairs=np.array([[row[0], row[2]] for row in rows], np.int64).reshape(-1),
        digests=[bytes(each) for row in rows for each in (row[1], row[3])],
        same=np.array([row[4] for row in rows], np.bool_),
    )


def _end(session: Session, after: int) -> int | None:
    ends = fetch(session, f"SELECT id FROM digits WHERE id > %s ORDER BY id OFFSET {PAGE - 1} LIMIT 1", [after])
    return ends[0][0] if ends else None
