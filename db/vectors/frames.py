"""The frames of towers, as a process remembers them. It must not know what a frame is for."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db.bulk import fetch
from db.vectors.frame import DIGEST_BYTES, Frame

KEPT = 8  # frames that a process remembers; a tower has one, and few towers are in use
DIGEST = f"substring(frame FROM 1 FOR {DIGEST_BYTES})"  # a column of `towers`

_remembered: dict[bytes, Frame] = {}


def of(session: Session, tower: int) -> Frame | None:
    """A tower's frame; None where it has none."""
    ((digest,),) = fetch(session, f"SELECT {DIGEST} FROM towers WHERE id = %s", (tower,))
    return known(session, tower, digest)


def known(session: Session, tower: int, digest: bytes | None) -> Frame | None:
    """The frame that begins with a digest, from the tower's row where this process does not remember it."""
    if digest is None:
        return None
    frame = _remembered.get(digest)
    if frame is None:
        ((stored,),) = fetch(session, "SELECT frame FROM towers WHERE id = %s", (tower,))
        frame = _remembered[digest] = Frame.from_bytes(stored)
        for oldest in list(_remembered)[:-KEPT]:
            _remembered.pop(oldest, None)
    return frame
