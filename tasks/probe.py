"""Show that a lane works, by a message that goes the way of its work. It must not know who asks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db.errors import NoTower
from db.vectors import towers
from tasks.answering import answering
from twinvec_client.contract.messages import Probe
from worker.app import app, runs_towers
from worker.heartbeat import ask_database
from worker.runtime import Runtime, runtime

GLYPH = np.zeros((1, 28, 28), np.uint8)


@app.task(name=Probe.task, ignore_result=False, time_limit=60)
@answering
def probe(**payload: Any) -> dict[str, Any]:
    Probe.read(payload)
    return look(runtime(), with_tower=runs_towers())


def look(runtime: Runtime, *, with_tower: bool) -> dict[str, Any]:
    """Do a little of what this process is for, and say how long it took."""
    start = time.perf_counter()
    runtime.transact(ask_database)
    read = time.perf_counter()
    tower = None
    if with_tower and (live := runtime.transact(_live_tower)) is not None:
        computing = time.perf_counter()
        runtime.towers[live](GLYPH)
        tower = time.perf_counter() - computing
    return {"worker": runtime.name, "database": read - start, "tower": tower}


def _live_tower(session: Session) -> int | None:
    try:
        return towers.live(session).id
    except NoTower:
        return None
