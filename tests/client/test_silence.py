"""The client over connections that fall silent, that were idle for long, and after a fork; a real worker answers."""

import gc
import json
import os
import time
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy.engine import make_url

from tests.makers import eventually, together
from tests.silence import Proxy
from twinvec_client import NoAnswer, Twinvec, connection
from twinvec_client.contract.broker import KEY_PREFIX


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    with Proxy(make_url(broker_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
def tv(worker: None, proxy: Proxy) -> Twinvec:
    return Twinvec(f"redis://127.0.0.1:{proxy.port}/0", answer_timeout=15)


def test_it_answers_again_after_all_its_connections_fell_silent(tv: Twinvec, proxy: Proxy) -> None:
    assert tv.jobs() == []
    for _ in range(2):
        assert proxy.swallow() > 0
        start = time.monotonic()
        assert tv.jobs() == []
        assert time.monotonic() - start < 12


def test_connections_that_were_idle_for_long_are_not_used(
    tv: Twinvec, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tv.jobs() == []
    proxy.swallow()
    monkeypatch.setattr(connection, "IDLE_LIMIT", 0.0)
    start = time.monotonic()
    assert tv.jobs() == []
    assert time.monotonic() - start < connection.SOCKET_TIMEOUT


def test_it_works_on_in_a_process_forked_from_its_own(tv: Twinvec) -> None:
    assert tv.jobs() == []
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if tv.jobs() == [] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert tv.jobs() == []


def test_what_is_not_answered_is_asked_twice_under_one_id(broker: "redis.Redis", broker_url: str) -> None:
    with pytest.raises(NoAnswer):
        Twinvec(broker_url, answer_timeout=0.3).jobs()
    asked = [json.loads(message)["headers"]["id"] for message in broker.lrange(f"{KEY_PREFIX}control", 0, -1)]
    assert len(asked) == 2
    assert len(set(asked)) == 1, "two workers could answer it differently"


def test_a_request_that_must_not_be_repeated_is_sent_once(broker: "redis.Redis", broker_url: str) -> None:
    with pytest.raises(NoAnswer):
        Twinvec(broker_url, answer_timeout=0.3).requeue(1)
    assert broker.llen(f"{KEY_PREFIX}control") == 1


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's collector, which may take hours to come: what is closed is closed on purpose."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_lines_that_were_replaced_leave_no_connection_behind(
    broker: "redis.Redis", broker_url: str, no_collector: None
) -> None:
    tv = Twinvec(broker_url, answer_timeout=0.1)

    def connections_after(times: int) -> int:
        for _ in range(times):
            with pytest.raises(NoAnswer):
                tv.jobs()
        return len(broker.client_list())

    first, _ = connections_after(1), connections_after(3)
    eventually(lambda: len(broker.client_list()) <= first, "the end of those that were replaced")


def test_lines_that_were_idle_for_long_leave_no_connection_behind(
    tv: Twinvec, broker: "redis.Redis", monkeypatch: pytest.MonkeyPatch, no_collector: None
) -> None:
    monkeypatch.setattr(connection, "IDLE_LIMIT", 0.0)
    tv.jobs()
    first = len(broker.client_list())
    for _ in range(8):
        tv.jobs()
    others = 4  # connections that the worker's own threads may open meanwhile
    eventually(lambda: len(broker.client_list()) <= first + others, "the end of those that were replaced")


def test_threads_that_have_ended_leave_no_connection_behind(
    tv: Twinvec, broker: "redis.Redis", no_collector: None
) -> None:
    together(tv.jobs)
    first = len(broker.client_list())
    for _ in range(8):
        together(tv.jobs)
    eventually(lambda: len(broker.client_list()) <= first + 1, "the end of those of threads that ended")


def test_a_line_that_is_replaced_answers_those_who_still_wait(tv: Twinvec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every thread finds it idle for too long, and replaces it while the others ask."""
    monkeypatch.setattr(connection, "IDLE_LIMIT", 0.0)
    assert together(*[tv.jobs] * 8) == [[]] * 8
