"""What goes on in the whole installation, as the ledger and the broker say it. It must not change anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from db.queue import overview
from db.queue.overview import Held, Standing, Work
from db.states import JobKind
from tasks.answering import answering
from tasks.broker import connected
from tasks.jobs import PAGE
from twinvec_client.contract.broker import LANES, key_prefix
from twinvec_client.contract.messages import ShowOverview
from worker import roster
from worker.app import app
from worker.outbox import MESSAGES
from worker.roster import Seen
from worker.runtime import Runtime, runtime
from worker.watchdog import LISTENING

_RATED = ("embed", "backfill")
_SAID = 3  # batches that a worker is said to hold: small ones are claimed by the hundred


@app.task(name=ShowOverview.task, ignore_result=False)
@answering
def show_overview(**payload: Any) -> dict[str, Any]:
    return look_around(ShowOverview.read(payload), runtime())


def look_around(request: ShowOverview, runtime: Runtime) -> dict[str, Any]:
    """Raises RedisError where the broker does not answer."""
    found = runtime.transact(overview.standing, newest=min(request.jobs, PAGE))
    broker, keys = connected(), key_prefix(runtime.settings.lane_prefix())
    with broker.pipeline(transaction=False) as pipe:
        for lane in LANES:
            pipe.llen(keys + lane)
            pipe.get(f"{keys}{LISTENING}{lane}")
        said = pipe.execute()
    return {
        "at": found.at,
        "live_tower": found.live_tower,
        "backlog": found.backlog,
        "rate": found.work[JobKind.EMBED].rate,
        "lanes": [
            {
                "name": lane,
                "waiting": said[2 * at],
                "listening": said[2 * at + 1] is not None,
                **_of_lane(lane, found),
                "paused": _pause(lane, found, said[2 * at]),
            }
            for at, lane in enumerate(LANES)
        ],
        "workers": [_worker(seen, found) for seen in roster.read(broker, keys)],
        "jobs": [asdict(job) for job in found.jobs],
    }


def _of_lane(lane: str, found: Standing) -> dict[str, Any]:
    """What the ledger says of a lane."""
    if lane == "intake":
        return {"queued": found.left, "running": None, "rate": None, "oldest_wait": found.oldest_left}
    works = [found.work[kind] for kind, message in MESSAGES.items() if message.lane == lane]
    if not works:
        return {"queued": None, "running": None, "rate": None, "oldest_wait": None}
    return {
        "queued": sum(work.queued for work in works),
        "running": sum(work.running for work in works),
        "rate": sum(work.rate for work in works) if lane in _RATED else None,
        "oldest_wait": _longest(works),
    }


def _pause(lane: str, found: Standing, waiting: int) -> dict[str, Any] | None:
    pause = found.paused.get(lane)
    if pause is None:
        return None
    if lane == "intake" and pause.draining:
        pause = replace(pause, left=waiting + found.left)
    return asdict(pause)


def _longest(works: Iterable[Work]) -> float | None:
    return max((work.oldest for work in works if work.oldest is not None), default=None)


def _worker(seen: Seen, found: Standing) -> dict[str, Any]:
    note = seen.note
    started = datetime.fromisoformat(found.at) - timedelta(seconds=note.running + seen.ago)
    return {
        "name": note.name,
        "host": note.host,
        "process": note.process,
        "lanes": note.lanes,
        "since": started.isoformat(timespec="seconds"),
        "seen": seen.ago,
        "doing": _doing(seen, found.held),
        "memory": note.memory,
    }


def _doing(seen: Seen, held: list[Held]) -> str | None:
    """The batches that its processes hold, and its tasks that work on none."""
    processes = {f"{seen.note.host}:{process}" for process in (seen.note.process, *seen.note.pool)}
    own = [each for each in held if each.worker in processes]
    said = [f"{MESSAGES[each.kind].task}: batch {each.batch} of job {each.job}" for each in own[:_SAID]]
    said += [f"{len(own) - _SAID:,} more batches"] if len(own) > _SAID else []
    said += [task for task in seen.note.doing if task not in {MESSAGES[each.kind].task for each in own}]
    return "; ".join(said) or None
