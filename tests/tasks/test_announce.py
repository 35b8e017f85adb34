"""A caller's task is called when a job has ended, whatever happened on the way."""

import uuid
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import func, insert, select, update

from db.queue import dead, jobs
from db.tables import Batch, Job
from tasks.embed import embed
from tasks.intake import take_in
from tasks.jobs import end_job
from tasks.upkeep import sweep
from tests.makers import MAX_ATTEMPTS, age, die_on, glyph, register, rescue
from twinvec_client.contract.messages import GLYPH, Callback, Cancel, Intake
from twinvec_client.contract.packing import pack
from worker.runtime import Runtime

QUEUE = "their queue"


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower."""
    return register(runtime.transact)


def chunk(job: uuid.UUID, *seeds: int, seq: int = 0, total: int | None = None, queue: str = QUEUE) -> Intake:
    return Intake(
        job=str(job),
        seq=seq,
        collection="default",
        keys=[f"key {seed}" for seed in seeds],
        item_types=bytes([GLYPH] * len(seeds)),
        glyphs=pack(b"".join(map(glyph, seeds))),
        encoded=[],
        refused=[],
        labels=None,
        attributes=None,
        normalise=True,
        callback=Callback("their.task", queue),
        resent=False,
        digest=b"digest",
        first=b"digest",
        priority=1,
        total=total,
    )


def batches_of(runtime: Runtime, job: uuid.UUID) -> list[int]:
    query = select(Batch.id).where(Batch.job == job).order_by(Batch.id)
    return list(runtime.transact(lambda session: session.execute(query).scalars().all()))


def called(broker: Redis) -> list[dict[str, Any]]:
    """What a Celery application of theirs finds on its queue."""
    pool = broker.connection_pool.connection_kwargs
    theirs = Celery(broker=f"redis://{pool['host']}:{pool['port']}/{pool['db']}", set_as_current=False)
    found = []
    with theirs.connection() as connection, connection.SimpleQueue(QUEUE) as queue, suppress(queue.Empty):
        while True:
            message = queue.get(block=False)
            assert message.headers["task"] == "their.task"
            arguments, keywords, _ = message.payload
            assert keywords == {}
            found += arguments
            message.ack()
    return found


def test_it_is_told_the_outcome_once_the_last_picture_is_accounted_for(
    runtime: Runtime, broker: Redis, tower: int
) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1, 2), runtime)
    embed(batches_of(runtime, job)[0], runtime)
    assert called(broker) == []
    take_in(chunk(job, 3, seq=1, total=3), runtime)
    assert called(broker) == []
    embed(batches_of(runtime, job)[1], runtime)
    (outcome,) = called(broker)
    assert (outcome["id"], outcome["state"], outcome["total"], outcome["succeeded"]) == (str(job), "finished", 3, 3)
    sweep(runtime)
    assert called(broker) == [], "it was told already"


def test_it_is_told_at_once_where_nothing_is_to_be_embedded(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, total=0), runtime)
    assert [outcome["total"] for outcome in called(broker)] == [0]


def test_it_is_told_of_a_job_whose_pictures_were_buried(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1, total=1), runtime)
    (batch,) = batches_of(runtime, job)
    for _ in range(MAX_ATTEMPTS):
        die_on(runtime.transact, batch)
        rescue(runtime.transact)
    sweep(runtime)
    assert [(outcome["state"], outcome["failed"]) for outcome in called(broker)] == [("finished_with_failures", 1)]


def test_it_is_told_of_a_cancelled_job(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1), runtime)
    end_job(Cancel(job=str(job), by="me"), runtime)
    assert [(outcome["state"], outcome["cancelled"]) for outcome in called(broker)] == [("cancelled", 1)]


def test_it_is_told_of_an_abandoned_job_and_once_more_where_it_went_on(
    runtime: Runtime, broker: Redis, tower: int
) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1), runtime)
    (batch,) = batches_of(runtime, job)
    age(runtime.transact, 1.1)
    sweep(runtime)
    embed(batch, runtime)
    sweep(runtime)
    take_in(chunk(job, 2, seq=1, total=2), runtime)
    embed(batches_of(runtime, job)[1], runtime)
    assert [(outcome["state"], outcome["succeeded"]) for outcome in called(broker)] == [
        ("abandoned", 1),
        ("finished", 2),
    ]


def test_it_is_told_of_a_job_with_chunks_beyond_its_end(runtime: Runtime, broker: Redis, tower: int) -> None:
    """As a version before accepted them, of a shorter stream under a used idempotency key."""
    job = uuid.uuid4()
    for seq in (0, 2):
        take_in(chunk(job, seq, seq=seq), runtime)
    with runtime.engine.begin() as connection:
        connection.execute(update(Job).where(Job.id == job).values(chunks=1, total=1))
    for batch in batches_of(runtime, job):
        embed(batch, runtime)
    sweep(runtime)
    assert [outcome["state"] for outcome in called(broker)] == ["finished"]


def test_the_sweep_tells_what_a_dead_worker_did_not(runtime: Runtime, broker: Redis, tower: int) -> None:
    """It finished the batch and died before the call."""
    job = uuid.uuid4()
    take_in(chunk(job, 1, total=1), runtime)
    (batch,) = batches_of(runtime, job)
    broker.config_set("maxmemory", 1)
    try:
        embed(batch, runtime)
    finally:
        broker.config_set("maxmemory", 0)
    assert called(broker) == []
    sweep(runtime)
    assert [outcome["state"] for outcome in called(broker)] == ["finished"]


def test_it_is_told_again_when_a_dead_batch_was_tried_again(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1, total=1), runtime)
    (batch,) = batches_of(runtime, job)
    for _ in range(MAX_ATTEMPTS):
        die_on(runtime.transact, batch)
        rescue(runtime.transact)
    sweep(runtime)
    runtime.transact(dead.requeue, batch)
    embed(batch, runtime)
    assert [outcome["state"] for outcome in called(broker)] == ["finished_with_failures", "finished"]


def test_it_is_not_told_of_a_job_that_goes_on(runtime: Runtime, broker: Redis, tower: int) -> None:
    job = uuid.uuid4()
    take_in(chunk(job, 1), runtime)
    (batch,) = batches_of(runtime, job)
    embed(batch, runtime)
    sweep(runtime)
    assert called(broker) == [], "its last chunk has not come"


def test_a_hundred_callbacks_that_cannot_be_delivered_hide_none_of_the_others(
    runtime: Runtime, broker: Redis, tower: int
) -> None:
    broker.set("no list", "x")
    end_trainings(runtime, 105, "no list")
    end_trainings(runtime, 1, QUEUE)
    sweep(runtime)
    sweep(runtime)
    assert len(called(broker)) == 1
    assert sorted(tries(runtime)) == [1] * 11 + [2] * 94, "each was tried before one was tried again"


def test_a_callback_is_tried_later_and_later_given_up_and_says_so(runtime: Runtime, broker: Redis, tower: int) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_callbacks": 3})
    broker.set("no list", "x")
    job, pauses = uuid.uuid4(), []
    take_in(chunk(job, total=0, queue="no list"), runtime)
    for _ in range(5):
        pauses.append(pause(runtime, job))
        assert "could not be called" in (runtime.transact(jobs.status, job).message or "")
        tried_again(runtime)
        sweep(runtime)
    assert pauses[:3] == [pytest.approx(0, abs=1), pytest.approx(5, abs=1), pytest.approx(15, abs=1)]
    assert tries(runtime) == [3]
    assert "was given up: " in (runtime.transact(jobs.status, job).message or "")
    broker.delete("no list")
    sweep(runtime)
    assert broker.llen("no list") == 0


def test_a_callback_that_was_given_up_is_called_when_its_job_has_gone_on(
    runtime: Runtime, broker: Redis, tower: int
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"max_callbacks": 1})
    job = uuid.uuid4()
    broker.set(QUEUE, "x")
    take_in(chunk(job, 1, total=1), runtime)
    (batch,) = batches_of(runtime, job)
    for _ in range(MAX_ATTEMPTS):
        die_on(runtime.transact, batch)
        rescue(runtime.transact)
    sweep(runtime)
    assert tries(runtime) == [1]
    broker.delete(QUEUE)
    runtime.transact(dead.requeue, batch)
    embed(batch, runtime)
    (outcome,) = called(broker)
    assert (outcome["state"], outcome["message"]) == ("finished", None)


def end_trainings(runtime: Runtime, count: int, queue: str) -> None:
    """Store so many that have ended just now and were not called back."""
    ended = {"kind": "train", "ended_at": func.now(), "callback": {"task": "their.task", "queue": queue}}
    with runtime.engine.begin() as connection:
        connection.execute(insert(Job).values([ended | {"id": uuid.uuid4(), "parameters": {}} for _ in range(count)]))


def tried_again(runtime: Runtime) -> None:
    """Let the pauses of all callbacks be over."""
    with runtime.engine.begin() as connection:
        past = func.now() - func.make_interval(0, 0, 0, 0, 1)
        connection.execute(update(Job).where(Job.callback_retry_at.isnot(None)).values(callback_retry_at=past))


def tries(runtime: Runtime) -> list[int]:
    """Of the callbacks that were not called."""
    with runtime.engine.connect() as connection:
        return list(connection.execute(select(Job.callback_errors).where(Job.called_back_at.is_(None))).scalars())


def pause(runtime: Runtime, job: uuid.UUID) -> float:
    """Seconds until its callback is tried again."""
    with runtime.engine.connect() as connection:
        left = select(func.extract("epoch", Job.callback_retry_at - func.now())).where(Job.id == job)
        return float(connection.execute(left).scalar_one())
