"""What the broker keeps of messages that a worker holds, and what their answers take the place of."""

import json
import uuid
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from redis import Redis

from tests.abuse.envelopes import envelope
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.messages import Intake, ListJobs, Nearest
from worker.answers import Answers
from worker.app import app
from worker.transport import Transport


@pytest.mark.parametrize(
    ("lane", "task", "kept"),
    [("control", ListJobs.task, 1), ("query", Nearest.task, 0), ("intake", Intake.task, 0)],
)
def test_the_broker_keeps_no_copy_of_what_its_sender_sends_again(
    broker: Redis, broker_url: str, lane: str, task: str, kept: int
) -> None:
    broker.lpush(f"{KEY_PREFIX}{lane}", *(json.dumps(envelope(task, lane)) for _ in range(2)))
    held: list[Any] = []
    with (
        Connection(broker_url, transport=Transport, transport_options={"global_keyprefix": KEY_PREFIX}) as connection,
        Consumer(connection, [Queue(lane)], on_message=held.append, accept=["msgpack"]) as consumer,
    ):
        consumer.qos(prefetch_count=1)
        for count in (1, 2):
            connection.drain_events(timeout=10)
            assert len(held) == count
            assert broker.llen(f"{KEY_PREFIX}{lane}") == 2 - count
            assert broker.hlen(f"{KEY_PREFIX}unacked") == kept
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.01)  # no other one before this is acknowledged
            held[-1].ack()
            assert broker.hlen(f"{KEY_PREFIX}unacked") == 0


@pytest.mark.parametrize("how", ["refused", "closed"])
@pytest.mark.parametrize(("lane", "task", "back"), [("query", Nearest.task, 0), ("intake", Intake.task, 1)])
def test_a_chunk_goes_back_to_its_lane_where_its_process_can_give_it_back(
    broker: Redis, broker_url: str, lane: str, task: str, back: int, how: str
) -> None:
    name = f"{KEY_PREFIX}{lane}"
    broker.lpush(name, json.dumps(envelope(task, lane)))
    held: list[Any] = []
    with (
        Connection(broker_url, transport=Transport, transport_options={"global_keyprefix": KEY_PREFIX}) as connection,
        Consumer(connection, [Queue(lane)], on_message=held.append, accept=["msgpack"], prefetch_count=1),
    ):
        connection.drain_events(timeout=10)
        assert broker.llen(name) == 0
        if how == "refused":
            held[0].reject(requeue=True)
    assert [json.loads(wire)["headers"]["redelivered"] for wire in broker.lrange(name, 0, -1)] == [True] * back


def test_a_failure_takes_the_place_of_no_answer(broker: Redis, broker_url: str) -> None:
    id, answers = str(uuid.uuid4()), Answers(app=app, url=broker_url)
    answers.store_result(id, RuntimeError("its process ended"), "FAILURE")
    answers.store_together([(id, {"answer": 1})])
    answers.store_result(id, RuntimeError("its process ended"), "FAILURE")
    assert answers.get_task_meta(id)["result"] == {"answer": 1}
    answers.store_result(id, {"answer": 2}, "SUCCESS")
    assert answers.get_task_meta(id)["result"] == {"answer": 2}
