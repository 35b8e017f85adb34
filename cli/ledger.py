"""The database of this call, for commands that need what no message carries. It must not know what they read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from cli.errors import CommandError
from db.engine import connect
from db.tables import Tower
from worker.settings import Settings


class Named(NamedTuple):
    """What a tower is meant by."""

    id: int
    fingerprint: str


@contextmanager
def ledger(settings: Settings) -> Iterator[Engine]:
    """An engine for the length of a `with`. Raises CommandError where no database is set and no stack runs."""
    url = settings.database()
    if url is None:
        raise CommandError("this reads the database itself: set TWINVEC_DATABASE_URL, or start a stack by `twinvec up`")
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


def named_towers(session: Session) -> list[Named]:
    """All of them, newest first."""
    return [Named(*row) for row in session.execute(select(Tower.id, Tower.fingerprint).order_by(Tower.id.desc()))]
