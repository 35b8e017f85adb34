"""A worker for tests of the client, in a thread of their own process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from celery.contrib.testing.worker import start_worker
from sqlalchemy import Engine

from twinvec_client import Twinvec
from worker.app import app
from worker.runtime import runtime


@pytest.fixture
def worker(
    broker: "redis.Redis", broker_url: str, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """One that serves `control`, in a thread of this process."""
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)
    with serving("control"):
        yield


@pytest.fixture
def tv(
    broker: "redis.Redis", broker_url: str, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Twinvec]:
    """A client, and a worker of the lanes that answer it."""
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)
    with serving("query", "control"):
        yield Twinvec(broker_url, answer_timeout=30)


@contextmanager
def serving(*lanes: str) -> Iterator[None]:
    """A worker of these lanes, in a thread of this process."""
    runtime.cache_clear()
    for module in app.conf.include:
        app.loader.import_task_module(module)
    app.amqp.queues.select(list(lanes))
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield
    runtime().engine.dispose()
    runtime.cache_clear()
