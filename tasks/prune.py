"""Pruning: what has been kept for its time is deleted, a tenth of a second at a time.

The process that prunes may be the one that answers look-ups, so a round is short and another follows. It must not
decide what goes: `db.queue.retention` and `db.vectors.retention` do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy.exc import ProgrammingError

from db.errors import first_line
from db.queue import actions, retention
from db.queue.retention import START, Keep, Place, Pruned
from db.vectors.retention import prune_files
from twinvec_client.contract.messages import Prune
from worker import throttle
from worker.app import app
from worker.runtime import Runtime, runtime
from worker.settings import Settings

log = logging.getLogger(__name__)

SECONDS = 0.1  # that a round takes, but for the end of its last transaction
ROWS = 500  # of one transaction, which takes some hundredths of a second


@app.task(name=Prune.task)
def prune_now(**_: Any) -> None:
    try:
        throttle.upkeep.run(lambda: rounds().run(runtime()))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":  # insufficient_privilege
            raise
        log.error("nothing is pruned: %s; docs/security.md has the rights of a worker", first_line(error))


class Rounds:
    """The rounds of one process. Each goes on where the one before ended, so that none of them looks at all jobs.

    Several processes may prune at once: what one has locked the others pass by.
    """

    def __init__(self, *, rows: int = ROWS, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._clock = rows, clock
        self._after: Place | None = None  # None: a new pass begins
        self._surplus: datetime | None = None

    @property
    def at_end(self) -> bool:
        """Whether the last round came to the end of its pass: nothing more of the jobs can go now."""
        return self._after is None

    def run(self, runtime: Runtime) -> Pruned:
        """One round: small transactions, at least one, until all is done or the time is up; what of the jobs went."""
        start = self._clock()
        keep = keep_of(runtime.settings)
        if towers := runtime.transact(prune_files, days=runtime.settings.keep_towers):
            log.info("pruned the files of towers %s", ", ".join(map(str, towers)))
        runtime.transact(actions.prune, days=runtime.settings.keep_actions, rows=self._rows)
        pictures, total, more = 0, Pruned(), True
        while more:
            found = runtime.transact(retention.prune_pictures, keep, rows=self._rows)
            gone, self._after = self._prune_jobs(runtime, keep)
            pictures, total = pictures + found, total + gone
            more = (found == self._rows or not self.at_end) and self._clock() - start < SECONDS
        if pictures or total != Pruned():
            log.info(
                "pruned %d jobs with %d batches and %d failures, and the pictures of %d more, in %.2f s",
                total.jobs,
                total.batches,
                total.failures,
                pictures,
                self._clock() - start,
            )
        if total.uncalled:
            log.warning("%d of these jobs were never called back", total.uncalled)
        return total

    def _prune_jobs(self, runtime: Runtime, keep: Keep) -> tuple[Pruned, Place | None]:
        if self._after is None:
            self._surplus = runtime.transact(retention.surplus, runtime.settings.keep_most_jobs)
        return runtime.transact(
            retention.prune_jobs, keep, after=self._after or START, rows=self._rows, surplus=self._surplus
        )


@cache
def rounds() -> Rounds:
    """This process's."""
    return Rounds()


def keep_of(settings: Settings) -> Keep:
    return Keep(
        jobs=settings.keep_jobs,
        dead=settings.keep_dead,
        callbacks=settings.keep_callbacks,
        pictures=settings.keep_pictures,
    )
