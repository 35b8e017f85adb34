"""The sweep: what was left is published again, a tower that is ready goes live, and what is due is backfilled."""

import uuid

import pytest
from redis import Redis
from sqlalchemy import text

from db import locks
from db.vectors import lifecycle, partitions
from tasks import upkeep
from tasks.embed import embed
from tasks.judging import judge
from tasks.upkeep import queue_backfill, sweep
from tests.makers import (
    age,
    batch_of,
    claim,
    counts,
    expire,
    item,
    register,
    send,
    states,
    status,
    stored,
    together,
    tower_statuses,
    vectors,
)
from worker import throttle
from worker.runtime import Runtime
from worker.throttle import Throttle


def queued(runtime: Runtime) -> list[int]:
    query = text("SELECT id FROM batches WHERE state = 'queued' ORDER BY id")
    return list(runtime.transact(lambda session: session.execute(query).scalars().all()))


def work(runtime: Runtime) -> None:
    """Embed all there is."""
    for batch in queued(runtime):
        embed(batch, runtime)
        judge(batch, runtime)


def depths(broker: Redis) -> dict[str, int]:
    """How many messages wait, by lane."""
    return {lane: broker.llen(f"twinvec:{lane}") for lane in ("embed", "backfill", "train")}


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower."""
    return register(runtime.transact)


def test_a_step_that_fails_does_not_stop_those_after_it(
    runtime: Runtime, broker: Redis, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_of(runtime.transact, item("a", 1))
    runtime.transact(lambda session: session.execute(text("UPDATE batches SET published_at = NULL")))

    def broken(_: object, **__: object) -> None:
        raise ArithmeticError("no tower is ready")

    monkeypatch.setattr(lifecycle, "promote_ready", broken)
    with pytest.raises(ArithmeticError):
        sweep(runtime)
    assert depths(broker)["embed"] == 1


def test_what_a_dead_worker_left_is_published_again_and_done(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("a", 1), job=job)
    claim(runtime.transact, batch)
    expire(runtime.transact, batch)
    sweep(runtime)
    assert depths(broker) == {"embed": 1, "backfill": 0, "train": 0}
    embed(batch, runtime)
    assert counts(runtime.transact, job) == {"accepted": 1, "succeeded": 1}


def test_a_poisoned_digit_is_kept_with_its_job_as_far_as_the_setting_says(runtime: Runtime, tower: int) -> None:
    runtime.settings = runtime.settings.model_copy(update={"job_failure_bytes": 784, "max_attempts": 1})
    job = uuid.uuid4()
    for key, seq in ("a", 0), ("b", 1):
        batch = batch_of(runtime.transact, item(key, seq), job=job, seq=seq, open=True)
        claim(runtime.transact, batch)
        expire(runtime.transact, batch)
        sweep(runtime)
    kept = text("SELECT key, octet_length(picture) FROM failures ORDER BY key")
    assert runtime.transact(lambda session: [tuple(row) for row in session.execute(kept)]) == [("a", 784), ("b", None)]


@pytest.mark.parametrize(("after", "state"), [(7200.0, "receiving"), (3600.0, "abandoned"), (0.0, "receiving")])
def test_a_job_whose_client_has_gone_ends_as_the_setting_says(
    runtime: Runtime, tower: int, after: float, state: str
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"abandoned_after": after})
    job = uuid.uuid4()
    send(runtime.transact, item("a", 1), job=job, open=True)
    work(runtime)
    age(runtime.transact, 1.5 / 24)
    sweep(runtime)
    assert status(runtime.transact, job)["state"] == state


def test_a_lane_without_workers_does_not_silence_the_others(runtime: Runtime, broker: Redis, tower: int) -> None:
    broker.lpush("twinvec:train", *[b"waiting"] * runtime.settings.in_flight)
    send(runtime.transact, item("a", 1))
    runtime.transact(lambda session: session.execute(text("UPDATE batches SET published_at = NULL")))
    sweep(runtime)
    assert depths(broker)["embed"] == 1


def test_digits_that_waited_for_a_tower_are_published_when_it_comes(runtime: Runtime, broker: Redis) -> None:
    send(runtime.transact, item("a", 1))
    runtime.transact(lambda session: session.execute(text("UPDATE batches SET published_at = NULL")))
    sweep(runtime)
    assert depths(broker)["embed"] == 0
    register(runtime.transact)
    sweep(runtime)
    assert depths(broker)["embed"] == 1


def test_a_tower_is_filled_promoted_and_its_grandparent_dropped(runtime: Runtime, broker: Redis, tower: int) -> None:
    embed(batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(5))), runtime)
    generations = [tower]
    for name in ("second", "third"):
        generations.append(register(runtime.transact, name))
        broker.flushdb()
        sweep(runtime)
        assert depths(broker) == {"embed": 0, "backfill": 1, "train": 0}
        assert tower_statuses(runtime.transact)[generations[-1]] == "candidate"
        work(runtime)
        sweep(runtime)
        assert depths(broker)["backfill"] == 2, "it is to be judged"
        work(runtime)
        assert tower_statuses(runtime.transact)[generations[-1]] == "live"
    assert runtime.transact(partitions.partitions_to_drop) == []
    age(runtime.transact, days=0.001)
    sweep(runtime)
    assert [tower_statuses(runtime.transact)[each] for each in generations] == ["retired", "previous", "live"]
    assert [len(vectors(runtime.transact, each)) for each in generations] == [0, 5, 5]
    assert runtime.transact(partitions.partitions_to_drop) == []


def test_vectors_in_use_are_dropped_by_a_later_sweep_and_not_tried_by_each(
    runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep.Dropping, "not_before", 0.0)
    embed(batch_of(runtime.transact, item("a", 1)), runtime)
    register(runtime.transact, "second")
    register(runtime.transact, "third")
    age(runtime.transact, days=0.001)
    with runtime.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM embeddings"))
        sweep(runtime)
        assert runtime.transact(partitions.partitions_to_drop) != []
    sweep(runtime)
    assert runtime.transact(partitions.partitions_to_drop) != [], "each try makes others wait"
    monkeypatch.setattr(upkeep.Dropping, "not_before", 0.0)
    sweep(runtime)
    assert runtime.transact(partitions.partitions_to_drop) == []


def test_of_two_sweeps_at_once_one_goes_home(runtime: Runtime, broker: Redis, tower: int) -> None:
    send(runtime.transact, item("a", 1))
    runtime.transact(lambda session: session.execute(text("UPDATE batches SET published_at = NULL")))
    with runtime.engine.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": locks._SWEEP})
        sweep(runtime)
        assert depths(broker)["embed"] == 0
    together(lambda: sweep(runtime), lambda: sweep(runtime))
    sweep(runtime)  # each of the two may have come upon the other at that step
    assert depths(broker)["embed"] == 1


def test_vectors_that_were_lost_are_filled(runtime: Runtime, broker: Redis, tower: int) -> None:
    embed(batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(5))), runtime)
    runtime.transact(lambda session: session.execute(text("DELETE FROM embeddings")))
    broker.flushdb()
    queue_backfill(runtime)
    assert depths(broker) == {"embed": 0, "backfill": 1, "train": 0}
    queue_backfill(runtime)
    work(runtime)
    assert set(vectors(runtime.transact, tower)) == set(stored(runtime.transact))
    queue_backfill(runtime)
    assert queued(runtime) == []


def test_a_sweep_without_a_broker_still_keeps_the_ledger(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("a", 1), job=job)
    claim(runtime.transact, batch)
    expire(runtime.transact, batch)
    broker.config_set("maxmemory", 1)
    try:
        sweep(runtime)
    finally:
        broker.config_set("maxmemory", 0)
    assert states(runtime.transact, job) == ["queued"]


@pytest.mark.parametrize(("took", "swept"), [(0.0, 2), (4.0, 1)])
def test_a_message_that_comes_sooner_than_the_last_sweep_took_is_left_out(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, took: float, swept: int
) -> None:
    now, sweeps = 0.0, 0

    def sweep_for_a_while(_: Runtime) -> None:
        nonlocal now, sweeps
        now, sweeps = now + took, sweeps + 1

    monkeypatch.setattr(upkeep, "runtime", lambda: runtime)
    monkeypatch.setattr(upkeep, "sweep", sweep_for_a_while)
    monkeypatch.setattr(throttle, "upkeep", Throttle(lambda: now))
    upkeep.sweep_now()
    upkeep.sweep_now()
    assert sweeps == swept
