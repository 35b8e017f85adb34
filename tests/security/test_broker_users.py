"""What the broker's documented users cannot do. What they can is in test_secured_stack.py."""

from collections.abc import Callable, Iterator

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.security.conftest import Users
from twinvec_client.contract.broker import KEY_PREFIX, LANES
from worker.beats import leave, name, running, take_place
from worker.preflight import look

Broker = redis.Redis
Deed = Callable[[Broker], object]

NOBODYS: dict[str, Deed] = {
    "flush everything": lambda broker: broker.flushall(),
    "flush a database": lambda broker: broker.flushdb(),
    "read the configuration": lambda broker: broker.config_get("*"),
    "change the configuration": lambda broker: broker.config_set("maxmemory-policy", "allkeys-lru"),
    "list keys": lambda broker: broker.keys("*"),
    "scan keys": lambda broker: broker.scan(),
    "run a script": lambda broker: broker.eval("return 1", 0),
    "watch others' commands": lambda broker: broker.execute_command("MONITOR"),
    "see who is connected": lambda broker: broker.client_list(),
    "make users": lambda broker: broker.acl_setuser("me", enabled=True),
    "write foreign keys": lambda broker: broker.lpush("theirs", "x"),
    "read foreign keys": lambda broker: broker.get("theirs"),
    "stop the server": lambda broker: broker.execute_command("SHUTDOWN"),
    "copy to another server": lambda broker: broker.execute_command("REPLICAOF", "127.0.0.1", "1"),
    "subscribe to foreign channels": lambda broker: broker.execute_command("SUBSCRIBE", "theirs"),
    "subscribe to every answer": lambda broker: broker.execute_command("PSUBSCRIBE", f"{KEY_PREFIX}*"),
}
NO_PRODUCERS: dict[str, Deed] = {
    "run a stored script": lambda broker: broker.evalsha("0" * 40, 0),
    "delete a lane": lambda broker: broker.delete(f"{KEY_PREFIX}intake"),
    "read what others sent": lambda broker: broker.lrange(f"{KEY_PREFIX}intake", 0, -1),
    "take what others sent": lambda broker: broker.rpop(f"{KEY_PREFIX}intake"),
    "read what workers hold": lambda broker: broker.hgetall(f"{KEY_PREFIX}unacked"),
    "forge an answer": lambda broker: broker.set(f"{KEY_PREFIX}celery-task-meta-x", "x", ex=60),
    "announce an answer": lambda broker: broker.publish(f"{KEY_PREFIX}celery-task-meta-x", "x"),
    "announce that a job has got on": lambda broker: broker.publish(f"{KEY_PREFIX}job-x", ""),
    "read a lane as if it were an answer": lambda broker: broker.get(f"{KEY_PREFIX}intake"),
    "make a set of a lane": lambda broker: broker.sadd(f"{KEY_PREFIX}intake", "x"),
    "see what was set aside": lambda broker: broker.lrange(f"{KEY_PREFIX}set-aside", 0, -1),
    "write to a callback's queue": lambda broker: broker.lpush("orders", "x"),
}
WORKERS_LANES = sorted(set(LANES) - {"query", "control", "express", "intake"})


@pytest.fixture(scope="module", params=["twinvec-worker", "twinvec-producer"])
def anybody(users: Users, request: pytest.FixtureRequest) -> Iterator[Broker]:
    with users.connect(request.param) as broker:
        yield broker


@pytest.fixture
def producer(users: Users) -> Iterator[Broker]:
    with users.connect("twinvec-producer") as broker:
        yield broker


@pytest.mark.parametrize("deed", NOBODYS.values(), ids=NOBODYS)
def test_neither_user_can(anybody: Broker, deed: Deed) -> None:
    with pytest.raises(NoPermissionError):
        deed(anybody)


@pytest.mark.parametrize("deed", NO_PRODUCERS.values(), ids=NO_PRODUCERS)
def test_a_producer_cannot(producer: Broker, deed: Deed) -> None:
    with pytest.raises(NoPermissionError):
        deed(producer)


def test_a_worker_s_user_may_ask_what_a_start_has_to_know(users: Users) -> None:
    with users.connect("twinvec-worker") as broker:
        assert look(broker).ahead is not None
        take_place(broker, name())
        assert running(broker) == [name()]
        leave(broker, name())


@pytest.mark.parametrize("lane", WORKERS_LANES)
def test_a_producer_cannot_publish_in_the_workers_place(producer: Broker, lane: str) -> None:
    with pytest.raises(NoPermissionError):
        producer.lpush(KEY_PREFIX + lane, "x")


def test_nobody_comes_in_with_a_wrong_password(users: Users) -> None:
    broker = redis.Redis.from_url(users.url, username="twinvec-worker", password="wrong")
    with broker, pytest.raises(redis.AuthenticationError):
        broker.ping()
