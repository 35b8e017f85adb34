"""The ledger of a fleet, looked into while the database is hurt."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from tests.chaos.waiting import until


class Ledger:
    """Queries that wait until the database is back. check: called while a condition is awaited; it may raise."""

    def __init__(self, engine: Engine, check: Callable[[], None]) -> None:
        self._engine, self._check = engine, check

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        """What a query of the ledger gives, whatever is done to the database meanwhile."""
        deadline = time.monotonic() + 120
        while True:
            try:
                with self._engine.connect() as connection:
                    return list(connection.execute(text(query), parameters))
            except DBAPIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def one(self, query: str, **parameters: Any) -> Any:
        """The single value of a query."""
        return self.rows(query, **parameters)[0][0]

    def done(self) -> int:
        """Digits embedded so far."""
        return int(self.one("SELECT coalesce(sum(embedded), 0) FROM batches"))

    def reaches(self, digits: int) -> bool:
        """Whether so many are embedded."""
        return self.done() >= digits

    def settled(self, *jobs: str, within: float = 120) -> None:
        """Wait until every chunk of these jobs is accepted and no batch of any job is open."""
        query = """
            SELECT (SELECT count(*) FROM jobs WHERE kind = 'embed' AND cancelled_at IS NULL AND chunks IS NULL)
                + (SELECT count(*) FROM batches WHERE state IN ('queued', 'leased'))
                + :expected - (SELECT count(*) FROM jobs WHERE id = ANY(CAST(:jobs AS uuid[])))
        """
        until(
            lambda: not self.one(query, jobs=list(jobs), expected=len(set(jobs))),
            "the end of every batch",
            within=within,
            check=self._check,
        )
