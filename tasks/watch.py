"""The watch over the live tower, every hour: some stored vectors computed again, and how far new digits are from old.

It runs where towers run, on the lane `backfill`: what has changed may be that machine's driver, backend or card. It
must not change a vector.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from sqlalchemy.orm import Session

from db.errors import NoTower
from db.queue import pauses
from db.vectors import search, towers, watch
from db.vectors.towers import Space
from tasks.recomputing import recompute
from twinvec_client.contract.messages import Watch
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

CANARY = 16  # stored digits


@app.task(name=Watch.task)
def watch_live(**_: Any) -> None:
    look_after(runtime())


def look_after(runtime: Runtime) -> None:
    """One round; nothing where no tower is live, or the lane is paused."""
    if runtime.transact(pauses.of_lane, "backfill") is not None:
        return
    try:
        space = runtime.transact(towers.searched)
    except NoTower:
        return
    check_canary(space, runtime)
    look_at_new(space, runtime)


def check_canary(space: Space, runtime: Runtime) -> None:
    """Compute some stored vectors again, and raise the alarm where they are others."""
    found = recompute(space.tower, CANARY, runtime, seed=secrets.randbelow(2**32))
    if not found.digits:
        return
    digits, worst = found
    runtime.transact(watch.record_canary, space.tower, worker=runtime.name, digits=digits, worst=worst)
    if found.worst is None or found.worst > watch.ALARM:
        log.error(
            "%d stored vectors of tower %d computed again differ by %s: look at this machine's driver, backend and "
            "card before it stores more",
            found.digits,
            space.tower,
            "NaN" if found.worst is None else f"{found.worst:.1g}",
        )
    else:
        log.info("%d stored vectors computed again differ by %.1g at most", found.digits, found.worst)


def look_at_new(space: Space, runtime: Runtime) -> None:
    """Count those of the new digits that are far from all that was stored, by collection."""
    for new in runtime.transact_long(watch.new_digits):

        def count(session: Session, ids: list[int] = new.ids) -> tuple[int, int]:
            search.begin(session)
            return watch.count_far(session, space, ids)

        looked_at, far = runtime.transact_long(count)
        runtime.transact(watch.record_drift, space.tower, new, looked_at=looked_at, far=far)
        log.info("of %d new digits of %r %d are far from all others", looked_at, new.collection, far)
