"""What nobody waits for any more is left undone where others wait behind it, and nothing else is."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import redis
from celery import _state
from sqlalchemy import Engine

from tests.abuse.envelopes import envelope, plain_envelope
from tests.makers import eventually
from tests.serving import serving
from twinvec_client import NoAnswer, Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, SUBSCRIBED, answer_channel
from twinvec_client.contract.messages import Cancel, ListCollections, ListJobs, ListTowers
from worker.audience import BACKLOG
from worker.metrics import MAIN
from worker.watchdog import taken

CONTROL = f"{KEY_PREFIX}control"
NO_JOB = "00000000-0000-4000-8000-000000000000"

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def of_ledger(database_url: str, engine: Engine, broker: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINVEC_DATABASE_URL", database_url)


def gone(task: str = ListJobs.task, fields: dict[str, Any] | None = None, *, lane: str = "control") -> dict[str, Any]:
    """A message of a client's that has listened for the answer, and has gone."""
    message = envelope(task, lane, {"limit": 1} if fields is None else fields)
    message["headers"] |= {SUBSCRIBED: True, "ignore_result": False}
    return message


def put(broker: "redis.Redis", *messages: dict[str, Any]) -> list[str]:
    """Their ids."""
    broker.lpush(CONTROL, *(json.dumps(message) for message in messages))
    return [message["headers"]["id"] for message in messages]


def answered(broker: "redis.Redis", ids: list[str], keys: str = KEY_PREFIX) -> list[bool]:
    return [bool(broker.exists(answer_channel(id, keys))) for id in ids]


def left() -> float:
    return MAIN.get_sample_value("twinvec_messages_unheard_total", {"lane": "control"}) or 0


def all_read(broker: "redis.Redis") -> None:
    unacknowledged = f"{KEY_PREFIX}unacked"
    eventually(lambda: not broker.llen(CONTROL) and not broker.hlen(unacknowledged), "every message read", seconds=30)


def test_those_that_have_gone_are_left_undone_and_all_others_answered(of_ledger: None, broker: "redis.Redis") -> None:
    before, taken_before = left(), taken()
    stale = put(broker, *(gone() for _ in range(2 * BACKLOG)))
    polling, theirs = gone(), plain_envelope("twinvec.jobs", "control", {"limit": 1})
    del polling["headers"][SUBSCRIBED]  # it asks for its answer now and then
    theirs["headers"][SUBSCRIBED] = True  # whatever they mean by it
    others = put(broker, polling, theirs, gone(Cancel.task, {"job": NO_JOB, "by": None}))  # the last has an effect
    short = put(broker, *(gone(ListTowers.task, {}) for _ in range(BACKLOG)))  # nobody waits for long behind these
    with serving("control"):
        all_read(broker)
    assert answered(broker, stale) == [False] * len(stale)
    assert answered(broker, [others[0], others[2]]) == [True, True]
    assert answered(broker, [others[1]], keys="") == [True]
    assert answered(broker, short) == [True] * len(short)
    assert left() - before == len(stale)
    assert taken() - taken_before == len(stale + others + short), "a worker that leaves many undone has not stalled"


def test_beside_a_short_lane_those_on_a_long_one_are_left_undone_as_well(
    of_ledger: None, broker: "redis.Redis"
) -> None:
    """The worker takes from both in turn."""
    stale = put(broker, *(gone() for _ in range(2 * BACKLOG)))
    put(broker, *(gone(ListTowers.task, {}) for _ in range(BACKLOG)))
    looked_up = [gone(ListCollections.task, {}, lane="query") for _ in range(BACKLOG // 2)]
    broker.lpush(f"{KEY_PREFIX}query", *(json.dumps(each) for each in looked_up))
    with serving("query", "control"):
        all_read(broker)
    assert answered(broker, stale) == [False] * len(stale)


def test_a_client_whose_connections_are_cut_while_it_waits_is_answered(
    of_ledger: None, broker: "redis.Redis", broker_url: str
) -> None:
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(Twinvec(broker_url, answer_timeout=12).jobs()))
    waiting.start()
    eventually(lambda: broker.llen(CONTROL) == 1, "a message")
    put(broker, *(gone() for _ in range(BACKLOG)))
    assert broker.client_kill_filter(_type="pubsub") == 1
    with serving("control"):
        waiting.join(30)
    assert found == [[]]


@pytest.fixture(params=[False, True], ids=["anywhere", "in a task"])
def in_task(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where Celery subscribes only when it waits: after the message was sent."""
    with patch.object(_state, "_task_join_will_block", request.param):
        yield


def test_a_client_listens_before_it_sends(in_task: None, broker: "redis.Redis", broker_url: str) -> None:
    with broker.monitor() as monitor:
        with pytest.raises(NoAnswer):
            Twinvec(broker_url, answer_timeout=0.3).jobs()
        commands: list[str] = []
        while not commands or not commands[-1].startswith(f"LPUSH {CONTROL} "):
            commands.append(monitor.next_command()["command"])
    sent = json.loads(broker.lrange(CONTROL, -1, -1)[0])["headers"]
    assert sent[SUBSCRIBED] is True
    assert f"SUBSCRIBE {answer_channel(sent['id'])}" in commands
