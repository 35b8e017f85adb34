"""Whatever stands in a lane, no process dies of it, and honest messages between are answered."""

import json
import time
from collections.abc import Iterator

import pytest
import redis

from tests.abuse.envelopes import body, envelope
from tests.abuse.pictures import empty_webp, jpeg_of_scans
from tests.abuse.real_workers import CREW, fuzz, processes
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import Verdict
from twinvec_client import PictureRefused, Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, LANES
from worker.transport import KEPT, SET_ASIDE

MANY = 500  # spoilt messages on each lane

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
    assert found.died == []
    assert {member.starts for member in fleet.members.values()} == {1}
    assert found.verdict == Verdict(embedded=found.sent)
    assert broker.llen(KEY_PREFIX + SET_ASIDE) == KEPT
    for entry in broker.lrange(KEY_PREFIX + SET_ASIDE, 0, -1):
        kept = json.loads(entry)
        assert kept["reason"]
        assert kept["lane"] in (*LANES, "?")


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


def test_a_query_that_is_given_back_is_dropped(fleet: Fleet, broker: "redis.Redis") -> None:
    message = envelope("twinvec.nearest", "query", {"queries": [], "k": 1, "collection": None, "normalise": True})
    message["headers"] |= {"redelivered": True, "ignore_result": False}
    broker.lpush(f"{KEY_PREFIX}query", json.dumps(message))
    said = f"dropped the message {message['headers']['id']}"
    fleet.until(lambda: said in fleet.members["front"].log.read_text(), "a line in the log")
    all_taken(fleet, broker)
    assert broker.get(f"{KEY_PREFIX}celery-task-meta-{message['headers']['id']}") is None
