"""Where a run stores its digits, as the process that starts it tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from db.engine import connect


@dataclass(frozen=True)
class Place:
    """Where a run stores its digits: an empty ledger with one live tower."""

    broker_url: str
    database_url: str  # for SQLAlchemy
    tower: int
    tower_file: str
    folder: str  # for what a run leaves behind
    workers: dict[str, int]  # process ids by kind; empty where no worker of Twinvec runs

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        engine = connect(self.database_url)
        try:
            yield engine
        finally:
            engine.dispose()
