"""Look-ups that wait are answered together, each with its own answer, and nothing else is taken off the lane."""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import pytest
from celery.contrib.testing.worker import start_worker
from redis import Redis

from tasks import joining, query
from tests.makers import embed, eventually, item, register, send, trained, vector
from twinvec_client import OtherInstallation, Twinvec, UnknownKey
from worker import installation
from worker.app import app
from worker.runtime import Runtime, runtime
from worker.settings import Settings

NAME = trained("first").fingerprint
KEYS = [f"key {seed}" for seed in range(12)]


@pytest.fixture
def stored(runtime: Runtime) -> int:
    """A live tower and twelve digits."""
    tower = register(runtime.transact)
    embed(runtime.transact, send(runtime.transact, *(item(key, seed) for seed, key in enumerate(KEYS))))
    return tower


@pytest.fixture
def serve(database_url: str, broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call it to start a worker of the lane `query` in a thread of this process."""
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)
    runtime.cache_clear()
    for module in app.conf.include:
        app.loader.import_task_module(module)
    app.amqp.queues.select(["query"])
    yield lambda: start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20)
    runtime().engine.dispose()
    runtime.cache_clear()


def asked_at_once(broker_url: str, broker: Redis, serve: Any, calls: list[Any]) -> list[Any]:
    """What each call of a client of its own comes to, where all of them wait before a worker starts."""

    def ask(call: Any) -> Any:
        try:
            return call(Twinvec(broker_url, answer_timeout=30))
        except (UnknownKey, OtherInstallation) as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        waiting = [threads.submit(ask, call) for call in calls]
        eventually(lambda: broker.llen("twinvec:query") == len(calls), "all look-ups wait")
        with serve():
            return [each.result(timeout=60) for each in waiting]


def nearest_key(answer: Any) -> str:
    key: str = answer.neighbours[0].key
    return key


def test_those_that_wait_are_answered_in_one_go(stored: int, broker: Redis, broker_url: str, serve: Any) -> None:
    calls = [lambda tv, seed=seed: tv.nearest(vector=vector(stored, seed), tower=NAME, k=3) for seed in range(12)]
    with patch.object(query, "look_up", wraps=query.look_up) as looked_up:
        found = asked_at_once(broker_url, broker, serve, calls)
    assert [nearest_key(answer) for answer in found] == KEYS
    assert looked_up.call_count == 1


def test_where_none_waits_behind_one_the_lane_is_not_read(
    stored: int, broker: Redis, broker_url: str, serve: Any
) -> None:
    with patch.object(joining, "_pop", wraps=joining._pop) as read:
        alone = asked_at_once(broker_url, broker, serve, [lambda tv: tv.nearest(key=KEYS[0], k=3)])
        assert read.call_count == 0
        asked_at_once(broker_url, broker, serve, [lambda tv: tv.nearest(key=KEYS[0], k=3)] * 2)
        assert read.call_count == 1
    assert len(alone) == 1


def test_one_that_is_refused_costs_only_itself(stored: int, broker: Redis, broker_url: str, serve: Any) -> None:
    calls: list[Any] = [lambda tv, key=key: tv.nearest(key=key, k=3) for key in [*KEYS[:3], "unknown", *KEYS[3:6]]]
    found = asked_at_once(broker_url, broker, serve, calls)
    assert isinstance(found.pop(3), UnknownKey)
    assert all(len(answer.neighbours) == 3 for answer in found)


def test_one_that_means_another_installation_is_refused_and_the_others_are_told_which_answered(
    stored: int, broker: Redis, broker_url: str, serve: Any
) -> None:
    def ask(tv: Twinvec) -> str | None:
        tv.nearest(vector=vector(stored, 1), tower=NAME, k=3)
        return tv._connection.installation

    elsewhere = Twinvec(broker_url, installation=str(uuid.uuid4()))
    calls: list[Any] = [ask, ask, lambda tv: ask(elsewhere), ask, ask]
    found = asked_at_once(broker_url, broker, serve, calls)
    assert isinstance(found.pop(2), OtherInstallation)
    assert set(found) == {installation.own(Settings())}


def test_those_whose_callers_are_gone_are_not_taken_along(
    stored: int, broker: Redis, broker_url: str, serve: Any
) -> None:
    def ask(seed: int) -> str:
        return nearest_key(Twinvec(broker_url).nearest(vector=vector(stored, seed), tower=NAME, k=3))

    with ThreadPoolExecutor(12) as threads, patch.object(query, "look_up", wraps=query.look_up) as looked_up:
        asking = [threads.submit(ask, 0)]
        eventually(lambda: broker.llen("twinvec:query") == 1, "the first look-up waits")
        gone = json.loads(broker.lrange("twinvec:query", 0, 0)[0])
        for at in range(20):
            gone["headers"]["id"] = f"gone-{at}"
            broker.lpush("twinvec:query", json.dumps(gone))
        asking += [threads.submit(ask, seed) for seed in range(1, 12)]
        eventually(lambda: broker.llen("twinvec:query") == 32, "all look-ups wait")
        with serve():
            assert [each.result(timeout=60) for each in asking] == KEYS
    assert sum(len(call.args[0].queries) for call in looked_up.call_args_list) == 12


def test_what_asks_otherwise_stays_where_it_was(stored: int, broker: Redis, broker_url: str, serve: Any) -> None:
    calls: list[Any] = [lambda tv, k=k: tv.nearest(vector=vector(stored, 1), tower=NAME, k=k) for k in (1, 2, 3)]
    calls += [lambda tv: tv.suspects(limit=1)]
    *answers, suspects = asked_at_once(broker_url, broker, serve, calls)
    assert [len(answer.neighbours) for answer in answers] == [1, 2, 3]
    assert suspects.looked_at == 0  # none has a label
    assert broker.llen("twinvec:query") == 0


def test_nothing_is_lost_while_many_ask(stored: int, broker: Redis, broker_url: str, serve: Any) -> None:
    stop = threading.Event()

    def ask(seed: int) -> int:
        tv, count = Twinvec(broker_url, answer_timeout=30), 0
        while not stop.is_set() or not count:
            assert nearest_key(tv.nearest(vector=vector(stored, seed), tower=NAME, k=1 + seed % 2)) == KEYS[seed]
            count += 1
        return count

    with (
        patch.object(joining, "answer", wraps=joining.answer) as taken_along,
        serve(),
        ThreadPoolExecutor(12) as threads,
    ):
        asking = [threads.submit(ask, seed) for seed in range(12)]
        try:
            eventually(lambda: taken_along.call_count > 100, "a hundred are taken along", seconds=60)
        finally:
            stop.set()
        assert all(each.result(timeout=60) for each in asking)
    assert broker.llen("twinvec:query") == 0
