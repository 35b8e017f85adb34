"""Whatever stands in a lane, no process dies of it, and honest messages between are answered."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.abuse.envelopes import body, envelope
from tests.abuse.pictures import empty_webp, jpeg_of_scans
from tests.abuse.real_workers import CREW, fuzz, processes
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import Verdict
from tests.chaos.pictures import noise
from twinvec_client import PictureRefused, Twinvec
from twinvec_client.chunks import JobOptions, chunks
from twinvec_client.contract.broker import KEY_PREFIX, LANES, SUBSCRIBED
from twinvec_client.contract.messages import BadMessage, EmbedBatch, Express, ListJobs, Message, Nearest, Query
from twinvec_client.delivery import new_job
from worker.audience import BACKLOG
from worker.transport import KEPT, SET_ASIDE

MANY = 500  # spoilt messages on each lane
MANY_GONE = 3000  # messages whose callers are gone

pytestmark = pytest.mark.usefixtures("costly")


@pytest.fixture(scope="module")
def fleet(costly: None) -> Iterator[Fleet]:
    with Fleet(CREW) as fleet:
        yield fleet


@pytest.fixture
def broker(fleet: Fleet) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(fleet.broker.url) as broker:
        yield broker


def all_taken(fleet: Fleet, broker: "redis.Redis") -> None:
    lanes = [KEY_PREFIX + lane for lane in LANES]
    fleet.until(lambda: not any(broker.llen(lane) for lane in lanes), "every message taken")
    fleet.until(lambda: broker.hlen(f"{KEY_PREFIX}unacked") == 0, "every message acknowledged")


def honest_caller(fleet: Fleet) -> Twinvec:
    """One who waits as long as an honest caller may have to."""
    return Twinvec(fleet.broker.url, answer_timeout=10)


def test_thousands_of_spoilt_messages_end_no_process_and_hold_up_nobody(fleet: Fleet, broker: "redis.Redis") -> None:
    found = fuzz(fleet, MANY, seed=7)
    assert (found.died, found.raised) == ([], [])
    assert found.logged < 400 * sum(found.messages.values())
    assert {member.starts for member in fleet.members.values()} == {1}
    assert found.verdict == Verdict(embedded=found.sent)
    assert broker.llen(KEY_PREFIX + SET_ASIDE) == KEPT
    for entry in broker.lrange(KEY_PREFIX + SET_ASIDE, 0, -1):
        kept = json.loads(entry)
        assert kept["reason"]
        assert kept["lane"] in (*LANES, "?")


def test_a_field_of_any_name_is_refused_in_a_line() -> None:
    with pytest.raises(BadMessage, match="unknown field `xxx") as refused:
        EmbedBatch.read({"batch": 1, "x" * 10**6: 1})
    assert len(str(refused.value)) < 400


def test_what_is_celery_s_own_is_not_done(fleet: Fleet, broker: "redis.Redis") -> None:
    before = processes(fleet)
    broker.delete(KEY_PREFIX + SET_ASIDE)
    asked = {
        "callbacks": [{"task": "twinvec.embed", "args": [], "kwargs": {"batch": 1}, "options": {"queue": "embed"}}]
    }
    messages = [envelope(f"celery.{name}", "control") for name in ("chord_unlock", "map", "starmap", "group", "chain")]
    messages += [envelope("twinvec.jobs", "control", {"limit": 1}) for _ in range(3)]
    messages[5]["headers"]["eta"] = "2099-01-01T00:00:00+00:00"
    messages[6]["headers"]["compression"] = "bzip2"
    messages[7]["body"] = body(keywords={"limit": 1}, options=asked)
    broker.lpush(f"{KEY_PREFIX}control", *(json.dumps(message) for message in messages))
    fleet.until(lambda: broker.llen(KEY_PREFIX + SET_ASIDE) == len(messages), "every message set aside")
    all_taken(fleet, broker)
    assert processes(fleet) == before
    assert broker.llen(f"{KEY_PREFIX}embed") == 0


def test_a_lane_that_is_no_list_is_made_one_again(fleet: Fleet, broker: "redis.Redis") -> None:
    starts = {name: member.starts for name, member in fleet.members.items()}
    all_taken(fleet, broker)
    names = [f"{KEY_PREFIX}{lane}{priority}" for lane in LANES for priority in ("", "\x06\x163", "\x06\x169")]
    for name in names:
        broker.sadd(name, "x")
    fleet.until(lambda: not any(map(broker.exists, names)), "every lane mended", within=10)
    assert honest_caller(fleet).jobs() is not None
    assert {name: member.starts for name, member in fleet.members.items()} == starts


@pytest.mark.parametrize("picture", [jpeg_of_scans(60_000, side=64), empty_webp()], ids=["scans", "transparent pixels"])
def test_one_costly_picture_is_refused_and_nobody_waits_for_it(fleet: Fleet, picture: bytes) -> None:
    client, start = Twinvec(fleet.broker.url), time.monotonic()
    with pytest.raises(PictureRefused, match=r"too_costly|blank"):
        client.nearest(picture)
    assert client.jobs() is not None
    assert time.monotonic() - start < 30, "longer than a caller waits"
    assert {member.starts for member in fleet.members.values()} == {1}


@pytest.mark.parametrize("lane", ["query", "control", "express"])
def test_a_flood_whose_callers_are_gone_holds_up_nobody_for_long(
    fleet: Fleet, broker: "redis.Redis", lane: str
) -> None:
    client, log = honest_caller(fleet), fleet.members["front"].log
    client.embed(noise(20, seed=4, prefix="flood/"), collection="flood").wait(timeout=10)
    unused: dict[str, Any] = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
    gone = Query(key="flood/000001")
    (small,) = chunks(noise(1, seed=5, prefix="gone/"), JobOptions(job=new_job(), collection="gone"))
    flood: Message | None = {
        "query": Nearest(queries=[gone], k=1, **unused, match=False, pictures=False, normalise=True),
        "control": ListJobs(limit=100),
        "express": Express.of(small),
    }[lane]
    assert flood is not None
    answered: dict[str, Callable[[], Any]] = {
        "query": lambda: client.nearest(key="flood/000002", k=1).neighbours,
        "control": client.jobs,
        "express": lambda: client.embed(noise(1, seed=6, prefix="flood/small/"), collection="flood").wait(timeout=10),
    }
    messages = [envelope(flood.task, lane, flood.write()) for _ in range(MANY_GONE)]
    for message in messages:
        message["headers"] |= {SUBSCRIBED: True, "ignore_result": False}
    written = log.stat().st_size
    for start in range(0, MANY_GONE, 1000):
        broker.lpush(KEY_PREFIX + lane, *(json.dumps(message) for message in messages[start : start + 1000]))
    start_time = time.monotonic()
    assert answered[lane]()
    assert time.monotonic() - start_time < 10
    all_taken(fleet, broker)
    left = sum(map(int, re.findall(r"left (\d+) messages undone", log.read_text()[written:])))
    assert MANY_GONE - BACKLOG <= left < MANY_GONE


def test_a_query_that_is_given_back_is_dropped(fleet: Fleet, broker: "redis.Redis") -> None:
    message = envelope("twinvec.nearest", "query", {"queries": [], "k": 1, "collection": None, "normalise": True})
    message["headers"] |= {"redelivered": True, "ignore_result": False}
    broker.lpush(f"{KEY_PREFIX}query", json.dumps(message))
    said = f"dropped the message {message['headers']['id']}"
    fleet.until(lambda: said in fleet.members["front"].log.read_text(), "a line in the log")
    all_taken(fleet, broker)
    assert broker.get(f"{KEY_PREFIX}celery-task-meta-{message['headers']['id']}") is None
