"""What the broker's documented users cannot do. What they can is in test_secured_stack.py."""

import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from tests.makers import eventually
from tests.security.conftest import UNKNOWN, Users, is_redis_7_0
from twinvec_client.contract.broker import KEY_PREFIX, LANES, SUBSCRIBED
from worker.audience import unheard
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
    "list channels": lambda broker: broker.pubsub_channels(),
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
NO_WATCHERS: dict[str, Deed] = {
    "send a message": lambda broker: broker.lpush(f"{KEY_PREFIX}query", "x"),
    "take a message": lambda broker: broker.rpop(f"{KEY_PREFIX}query"),
    "take a message and wait": lambda broker: broker.brpop([f"{KEY_PREFIX}query"], 1),
    "read a lane": lambda broker: broker.lrange(f"{KEY_PREFIX}query", 0, -1),
    "read an answer": lambda broker: broker.get(f"{KEY_PREFIX}celery-task-meta-x"),
    "follow answers": lambda broker: broker.execute_command("SUBSCRIBE", f"{KEY_PREFIX}celery-task-meta-x"),
    "follow jobs": lambda broker: broker.execute_command("SUBSCRIBE", f"{KEY_PREFIX}job-x"),
    "delete a lane": lambda broker: broker.delete(f"{KEY_PREFIX}intake"),
    "make the lanes another installation's": lambda broker: broker.set(f"{KEY_PREFIX}installation", "x"),
}
WORKERS_LANES = sorted(set(LANES) - {"query", "control", "express", "intake"})


@pytest.fixture(scope="module", params=["embedded_users", "redis_users"])
def users(request: pytest.FixtureRequest) -> Users:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Users)
    return found


@pytest.fixture(scope="module", params=["twinvec-worker", "twinvec-producer", "twinvec-watcher"])
def anybody(users: Users, request: pytest.FixtureRequest) -> Iterator[Broker]:
    with users.connect(request.param) as broker:
        yield broker


@pytest.fixture
def producer(users: Users) -> Iterator[Broker]:
    with users.connect("twinvec-producer") as broker:
        yield broker


@pytest.mark.parametrize("deed", NOBODYS.values(), ids=NOBODYS)
def test_no_user_can(anybody: Broker, deed: Deed) -> None:
    with pytest.raises(NoPermissionError):
        deed(anybody)


@pytest.mark.parametrize("deed", NO_PRODUCERS.values(), ids=NO_PRODUCERS)
def test_a_producer_cannot(producer: Broker, deed: Deed) -> None:
    with pytest.raises(NoPermissionError):
        deed(producer)


@pytest.mark.parametrize("deed", NO_WATCHERS.values(), ids=NO_WATCHERS)
def test_a_watcher_cannot(users: Users, deed: Deed) -> None:
    with users.connect("twinvec-watcher") as watcher, pytest.raises(NoPermissionError):
        deed(watcher)


def test_a_watcher_s_user_may_read_events_and_count_messages(users: Users) -> None:
    sender, reader = (Celery("x", broker=users.url_of(name)) for name in ("twinvec-worker", "twinvec-watcher"))
    for each in (sender, reader):
        each.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
    seen: list[str] = []
    with reader.connection_for_read() as reading, sender.connection_for_write() as writing:
        receiver = reader.events.Receiver(reading, handlers={"*": lambda event: seen.append(event["type"])})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=60, wakeup=True), daemon=True)
        thread.start()
        with sender.events.Dispatcher(writing, hostname="front@here", buffer_while_offline=False) as events:

            def is_seen() -> bool:
                events.send("task-received", uuid="x", name="twinvec.embed")
                return "task-received" in seen

            eventually(is_seen, "an event")
        receiver.should_stop = True
        thread.join(10)
    with users.connect("twinvec-watcher") as watcher:
        assert watcher.llen(f"{KEY_PREFIX}embed") == 0


def test_a_worker_s_user_may_ask_what_a_start_has_to_know(users: Users) -> None:
    with users.connect("twinvec-worker") as broker:
        assert look(broker).ahead is not None
        take_place(broker, name())
        assert running(broker) == [name()]
        leave(broker, name())


@pytest.mark.parametrize(("user", "found"), [("twinvec-worker", {"gone"}), ("twinvec-producer", set())])
def test_a_worker_s_user_may_ask_who_listens_and_none_has_to(users: Users, user: str, found: set[str]) -> None:
    with users.connect(user) as broker:
        headers = {"task": "twinvec.jobs", "id": "gone", SUBSCRIBED: True}
        assert unheard(broker, [headers], KEY_PREFIX) == found


@pytest.mark.parametrize("lane", WORKERS_LANES)
def test_a_producer_cannot_publish_in_the_workers_place(producer: Broker, lane: str) -> None:
    with pytest.raises(NoPermissionError):
        producer.lpush(KEY_PREFIX + lane, "x")


def test_nobody_comes_in_with_a_wrong_password(users: Users) -> None:
    broker = redis.Redis.from_url(users.url, username="twinvec-worker", password="wrong")
    with broker, pytest.raises(redis.AuthenticationError):
        broker.ping()


def test_redis_7_0_refuses_the_word_that_is_to_be_left_out_there(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as broker:
        if is_redis_7_0(broker):
            with pytest.raises(redis.ResponseError, match="Error in ACL SETUSER modifier"):
                broker.execute_command("ACL", "SETUSER", "somebody", UNKNOWN)
        else:
            assert broker.execute_command("ACL", "SETUSER", "somebody", UNKNOWN)
