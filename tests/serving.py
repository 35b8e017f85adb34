"""A worker for tests of the client, in a thread of their own process."""

from collections.abc import Iterator

import pytest
import redis
from celery.contrib.testing.worker import start_worker
from sqlalchemy import Engine

from worker.app import app
from worker.runtime import runtime


@pytest.fixture
def worker(
    broker: "redis.Redis", broker_url: str, database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """One that serves `control`, in a thread of this process."""
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)
    runtime.cache_clear()
    for module in app.conf.include:
        app.loader.import_task_module(module)
    app.amqp.queues.select(["control"])
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield
    runtime().engine.dispose()
    runtime.cache_clear()
