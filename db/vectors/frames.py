"""What towers' rows hold for those who read it often, as a process remembers it: frames, for one.

It must not know what they are for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from db.bulk import fetch
from db.vectors.frame import DIGEST_BYTES, Frame

T = TypeVar("T")

KEPT = 8  # of a kind; a tower has one, and few towers are in use


def digest_of(column: str) -> str:
    """What a thing in a column begins with, in SQL."""
    return f"substring({column} FROM 1 FOR {DIGEST_BYTES})"


class Remembered(Generic[T]):
    """The things in a column of `towers`, made of their bytes by `read`, which begin with a digest of the rest."""

    def __init__(self, column: str, read: Callable[[bytes], T]) -> None:
        self._column, self._read = column, read
        self._known: dict[bytes, T] = {}
        self.digest = digest_of(column)  # a column to be selected from `towers`

    def of(self, session: Session, tower: int) -> T | None:
        """A tower's; None where it has none."""
        ((digest,),) = fetch(session, f"SELECT {self.digest} FROM towers WHERE id = %s", (tower,))
        return self.known(session, tower, digest)

    def known(self, session: Session, tower: int, digest: bytes | None) -> T | None:
        """What begins with a digest, from the tower's row where this process does not remember it."""
        if digest is None:
            return None
        found = self._known.get(digest)
        if found is None:
            ((stored,),) = fetch(session, f"SELECT {self._column} FROM towers WHERE id = %s", (tower,))
            found = self._known[digest] = self._read(stored)
            for oldest in list(self._known)[:-KEPT]:
                self._known.pop(oldest, None)
        return found


FRAMES = Remembered("frame", Frame.from_bytes)
