"""Small jobs are stored and embedded in one go, by a worker that takes no other work; nothing depends on that."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from celery.contrib.testing.worker import start_worker
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from db.queue.whole import store_whole
from tasks import embed as embedding
from tasks import express
from tests.makers import PickedPixels, counts, eventually, glyph, register, vectors
from twinvec_client import Twinvec
from twinvec_client.chunks import JobOptions, chunks
from twinvec_client.contract.limits import MAX_EXPRESS_BYTES, MAX_EXPRESS_ITEMS
from twinvec_client.contract.messages import BadMessage, EmbedBatch, Express
from twinvec_client.results import EmbedOutcome
from worker.app import app
from worker.runtime import runtime

BROKEN = b"\x89PNG\r\n\x1a\n, and nothing that follows it"


@pytest.fixture
def serve(database_url: str, broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call it to start a worker of the lanes `express` and `control` in a thread of this process."""
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)
    runtime.cache_clear()
    for module in app.conf.include:
        app.loader.import_task_module(module)
    app.amqp.queues.select(["express", "control"])
    monkeypatch.setattr(runtime(), "towers", PickedPixels())
    yield lambda: start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20)
    runtime().engine.dispose()
    runtime.cache_clear()


def picture(seed: int) -> Any:
    return np.frombuffer(glyph(seed), np.uint8).reshape(28, 28)


def embedded_at_once(broker_url: str, broker: Redis, serve: Any, pictures: list[Any]) -> list[EmbedOutcome]:
    """What a job of each picture comes to, where all of them wait before the worker starts."""

    def embed(at: int) -> EmbedOutcome:
        tv = Twinvec(broker_url, answer_timeout=30)
        return tv.embed({f"key {at}": pictures[at]}, normalise=False).wait(timeout=30)

    with ThreadPoolExecutor(len(pictures)) as threads:
        waiting = [threads.submit(embed, at) for at in range(len(pictures))]
        eventually(lambda: broker.llen("twinvec:express") == len(pictures), "all jobs wait")
        with serve():
            return [each.result(timeout=60) for each in waiting]


def test_those_that_wait_are_embedded_in_one_go_without_any_other_worker(
    broker: Redis, broker_url: str, serve: Any
) -> None:
    tower = register(runtime().transact)
    with patch.object(express, "store_whole", wraps=store_whole) as stored:
        outcomes = embedded_at_once(broker_url, broker, serve, [picture(seed) for seed in range(12)])
    assert [(outcome.succeeded, outcome.failed) for outcome in outcomes] == [(1, 0)] * 12
    assert stored.call_count == 1
    found = vectors(runtime().transact, tower)
    for seed in range(12):
        np.testing.assert_array_equal(found[f"key {seed}"], PickedPixels()[tower](picture(seed).reshape(1, -1))[0])
    assert not [lane for lane in ("express", "intake", "embed") if broker.llen(f"twinvec:{lane}")]


def test_a_picture_that_is_refused_costs_only_its_own_job(broker: Redis, broker_url: str, serve: Any) -> None:
    register(runtime().transact)
    outcomes = embedded_at_once(broker_url, broker, serve, [picture(1), BROKEN, picture(2)])
    assert [(outcome.succeeded, outcome.failed) for outcome in outcomes] == [(1, 0), (0, 1), (1, 0)]


def test_a_job_that_cannot_be_embedded_now_is_accepted_and_stays_queued(
    broker: Redis, broker_url: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(PickedPixels):
        def __getitem__(self, tower: int) -> Any:
            raise MemoryError(f"no room for tower {tower}")

    tower = register(runtime().transact)
    monkeypatch.setattr(runtime(), "towers", Failing())
    with serve():
        job = Twinvec(broker_url, answer_timeout=30).embed({"key": picture(1)}, normalise=False)
    assert counts(runtime().transact, uuid.UUID(job.id)) == {"accepted": 1}

    monkeypatch.setattr(runtime(), "towers", PickedPixels())
    with runtime().engine.connect() as connection:
        (batch,) = connection.exec_driver_sql("SELECT id FROM batches").scalars()
    embedding.embed(EmbedBatch(batch=batch).batch, runtime())
    assert set(vectors(runtime().transact, tower)) == {"key"}


def test_the_answer_says_how_the_job_ended_and_nobody_asks_again(
    broker: Redis, broker_url: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(runtime().transact)
    tv = Twinvec(broker_url, answer_timeout=30)
    with serve():
        job = tv.embed({"key": picture(1)}, normalise=False)
        asked, ask = list[str](), tv._connection.ask

        def counted(message: Any, **how: Any) -> Any:
            asked.append(message.task)
            return ask(message, **how)

        monkeypatch.setattr(tv._connection, "ask", counted)
        (known,) = job.follow()
        assert asked == []
        assert known == job.status()
        assert list(job.follow()) == [known]
        assert asked == ["twinvec.status"] * 2


@example(count=8, size=MAX_EXPRESS_BYTES // 8)
@given(count=st.integers(1, MAX_EXPRESS_ITEMS + 3), size=st.integers(1, MAX_EXPRESS_BYTES // 8))
def test_only_all_pictures_of_a_small_job_are_sent_so(count: int, size: int) -> None:
    pictures = {str(at): bytes(size) for at in range(count)}
    (chunk,) = chunks(pictures, JobOptions(job=str(uuid.uuid4())))
    small = count <= MAX_EXPRESS_ITEMS and count * size <= MAX_EXPRESS_BYTES
    job = Express.of(chunk)
    assert (job is not None) == small
    if job is not None:
        assert Express.read(job.write()) == job
        with pytest.raises(BadMessage, match="all of its job"):
            Express.read(job.write() | {"total": count + 1})
