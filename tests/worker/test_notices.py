"""Notices of jobs, as workers publish them."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tasks.embed import embed
from tests.makers import Ledger, batch_of, item, register
from twinvec_client.contract.broker import job_channel
from worker import notices
from worker.notices import Notifier
from worker.runtime import Runtime

JOBS = [uuid.UUID(int=at) for at in range(3)]


@pytest.fixture
def listening(broker: "redis.Redis") -> Iterator[Any]:
    """Subscribed to the three jobs."""
    with broker.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(*map(job_channel, JOBS))
        while len(broker.pubsub_channels()) < len(JOBS):
            pass
        yield pubsub


def received(pubsub: Any) -> list[str]:
    """The channels of what came, until nothing comes for a while."""
    channels: list[str] = []
    misses = 0
    while misses < len(JOBS) + 2:  # confirmations are None as well
        message = pubsub.get_message(timeout=0.2)
        if message is None:
            misses += 1
        else:
            channels.append(message["channel"].decode())
    return sorted(channels)


def test_a_job_is_announced_once_however_many_of_its_batches_end_together(
    broker: "redis.Redis", listening: Any
) -> None:
    Notifier(broker).notify({JOBS[0], JOBS[2]})
    assert received(listening) == [job_channel(JOBS[0]), job_channel(JOBS[2])]


def test_batches_that_are_embedded_together_announce_each_job(runtime: Runtime, listening: Any) -> None:
    ledger: Ledger = runtime.transact
    register(ledger)
    batches = [batch_of(ledger, item(f"{at}", at), job=JOBS[at // 2], seq=at % 2, open=True) for at in range(4)]
    embed(batches[0], runtime)
    assert received(listening) == [job_channel(JOBS[0]), job_channel(JOBS[1])]


def test_a_broker_that_is_away_costs_one_try_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def refuse(*_: Any, **__: Any) -> Any:
        nonlocal tries
        tries += 1
        raise redis.ConnectionError("away")

    broker = redis.Redis(host="127.0.0.1", port=1)
    monkeypatch.setattr(broker.connection_pool, "get_connection", refuse)
    notifier = Notifier(broker)
    for _ in range(5):
        notifier.notify(set(JOBS))
    assert tries == 1
    monkeypatch.setattr(notices, "PAUSE", 0.0)
    notifier._silent_until = 0.0
    notifier.notify(set(JOBS))
    assert tries == 2
