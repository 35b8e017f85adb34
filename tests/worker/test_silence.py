"""A connection that has fallen silent warns its process of all the others."""

import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, text

import worker.app  # noqa: F401  # which has each connection watched
from tests.silence import Proxy, before, url_through
from worker.broker import connect_broker
from worker.runtime import Runtime
from worker.settings import Settings

FOREVER = 60.0  # seconds


@pytest.fixture
def to_broker(broker_url: str) -> Iterator[Proxy]:
    with Proxy(int(broker_url.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def patient(to_broker: Proxy) -> redis.Redis:
    """Waits for an answer for longer than a test takes, over a connection that is open."""
    return client(to_broker, FOREVER)


def client(proxy: Proxy, patience: float) -> redis.Redis:
    client = connect_broker(f"redis://127.0.0.1:{proxy.port}/0", socket_timeout=patience, retry=Retry(NoBackoff(), 0))
    assert client.ping()
    return client


def test_after_one_to_the_broker_the_others_are_opened_anew(to_broker: Proxy, patient: redis.Redis) -> None:
    hasty = client(to_broker, 3.0)  # longer than a busy machine needs
    assert to_broker.swallow() == 2
    with pytest.raises(redis.TimeoutError):
        hasty.ping()
    start = time.monotonic()
    assert patient.ping()
    assert time.monotonic() - start < FOREVER / 2


def test_after_one_to_the_database_those_to_the_broker_are_opened_anew(
    to_broker: Proxy, patient: redis.Redis, engine: Engine, broker_url: str
) -> None:
    with before(engine) as to_database:
        runtime = Runtime(Settings(broker_url=broker_url, database_url=url_through(to_database, engine)))
        for _ in range(2):
            start = time.monotonic()
            assert runtime.transact(lambda session: session.execute(text("SELECT 1")).scalar_one()) == 1
            assert patient.ping()
            assert time.monotonic() - start < FOREVER / 2
            assert to_database.swallow() > 0
            assert to_broker.swallow() > 0
        runtime.engine.dispose()
