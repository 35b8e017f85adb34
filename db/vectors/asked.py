"""Some of what is looked up while a candidate is filled, kept until it is judged. It must not look anything up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from db.tables import AskedQuery

MOST = 500  # that are kept
PIXELS = 784


def keep(session: Session, glyphs: Iterable[bytes]) -> None:
    """Keep pictures of 784 bytes, as far as there is room."""
    room = MOST - session.execute(select(func.count()).select_from(AskedQuery)).scalar_one()
    rows = [{"glyph": glyph} for glyph in glyphs][: max(room, 0)]
    if rows:
        session.execute(insert(AskedQuery), rows)


def newest(session: Session, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """(n, 784) uint8: the pictures that were kept last."""
    query = select(AskedQuery.glyph).order_by(AskedQuery.id.desc()).limit(count)
    return np.frombuffer(b"".join(session.execute(query).scalars()), np.uint8).reshape(-1, PIXELS)


def forget(session: Session) -> None:
    """Delete all of them."""
    session.execute(delete(AskedQuery))
