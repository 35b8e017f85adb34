"""Labelled digits as examples to learn from, a page at a time; those that are held out never. It must not know a model.

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

_HELD = str(
    held_out(literal_column("key")).compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy's, without types
        compile_kwargs={"literal_binds": True},
    )
)


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


def _end(session: Session, after: int) -> int | None:
    ends = fetch(session, f"SELECT id FROM digits WHERE id > %s ORDER BY id OFFSET {PAGE - 1} LIMIT 1", [after])
    return ends[0][0] if ends else None
