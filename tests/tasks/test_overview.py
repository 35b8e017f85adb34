"""The overview says what the ledger and the broker hold, and who works on what."""

import os
import socket
from datetime import datetime
from typing import Any

import redis

from db.states import JobKind
from tasks.overview import look_around
from tests.makers import batch_of, embed, expire, item, register, send
from twinvec_client import Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, LANES
from twinvec_client.contract.messages import ShowOverview
from worker import roster
from worker.outbox import publish
from worker.runtime import Runtime
from worker.watchdog import LISTENING


def look(runtime: Runtime, newest: int = 10) -> dict[str, Any]:
    return look_around(ShowOverview(jobs=newest), runtime)


def lane(runtime: Runtime, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in look(runtime)["lanes"] if each["name"] == name)
    return found


def test_an_empty_installation_has_lanes_and_nothing_on_them(runtime: Runtime) -> None:
    found = look(runtime)
    assert (found["live_tower"], found["backlog"], found["rate"]) == (None, 0, 0.0)
    assert [each["name"] for each in found["lanes"]] == list(LANES)
    assert {each["waiting"] for each in found["lanes"]} == {0}
    assert not any(each["listening"] for each in found["lanes"])
    assert (found["workers"], found["jobs"]) == ([], [])


def test_what_waits_and_what_is_embedded_is_counted_on_its_lane(runtime: Runtime, broker: "redis.Redis") -> None:
    batch = batch_of(runtime.transact, item("a", 1), item("b", 2))
    publish([(batch, JobKind.EMBED)])
    broker.set(KEY_PREFIX + LISTENING + "embed", 1)
    waiting = lane(runtime, "embed")
    assert (waiting["waiting"], waiting["queued"], waiting["running"], waiting["listening"]) == (1, 1, 0, True)
    assert waiting["oldest_wait"] is None, "it waits for a tower, not for a worker"
    assert look(runtime)["backlog"] == 2

    register(runtime.transact)
    assert 0 <= lane(runtime, "embed")["oldest_wait"] < 60
    embed(runtime.transact, batch)
    found = look(runtime)
    assert (found["backlog"], found["rate"], lane(runtime, "embed")["rate"]) == (0, 2 / 60, 2 / 60)
    assert found["live_tower"] is not None


def test_a_worker_is_at_the_batches_that_its_pool_holds(runtime: Runtime, broker: "redis.Redis") -> None:
    register(runtime.transact)
    batch = batch_of(runtime.transact, item("a", 1))
    lease = runtime.claim(batch)
    assert lease is not None
    roster.write(broker, roster.describe("embedder@here", ["embed"], lambda: [os.getpid()]))
    (worker,) = look(runtime)["workers"]
    assert worker["doing"] == f"twinvec.embed: batch {batch} of job {lease.job}"
    assert (worker["name"], worker["host"], worker["lanes"]) == ("embedder@here", socket.gethostname(), ["embed"])
    assert worker["memory"] > 10 * 2**20
    assert 0 <= worker["seen"] < 5
    expire(runtime.transact, batch)
    (worker,) = look(runtime)["workers"]
    assert worker["doing"] is None, "its lease is over"


def test_jobs_under_way_are_listed_however_old_they_are(runtime: Runtime) -> None:
    for seed in range(4):
        send(runtime.transact, item(f"k{seed}", seed))
    every = [job["id"] for job in look(runtime)["jobs"]]
    assert len(every) == 4
    assert [job["id"] for job in look(runtime, newest=1)["jobs"]] == every, "none of them has ended"


def test_a_client_reads_it(tv: Twinvec, runtime: Runtime, broker: "redis.Redis") -> None:
    send(runtime.transact, item("a", 1))
    roster.write(broker, roster.describe("front@here", ["control"], list))
    found = tv.overview(jobs=1)
    (worker,) = found.workers
    assert (worker.process, worker.lanes) == (os.getpid(), ["control"])
    assert datetime.fromisoformat(worker.since) < datetime.fromisoformat(found.at)
    assert [job.state for job in found.jobs] == ["waiting_for_tower"]
    assert next(lane for lane in found.lanes if lane.name == "embed").queued == 1
