"""Workers note that they run, and what is no note or has lapsed hides none of the others."""

import os

import msgspec
import pytest
import redis

from twinvec_client.contract.broker import KEY_PREFIX
from worker import roster


def note(name: str, process: int) -> roster.Note:
    return msgspec.structs.replace(roster.describe(name, ["embed"], list), process=process)


def names(broker: "redis.Redis") -> list[str]:
    return [seen.note.name for seen in roster.read(broker)]


def test_each_worker_is_named_once(broker: "redis.Redis") -> None:
    for _ in range(2):
        roster.write(broker, note("b@here", 2))
        roster.write(broker, note("a@here", 1))
    assert names(broker) == ["a@here", "b@here"]
    (seen, _) = roster.read(broker)
    assert 0 <= seen.ago < 5
    assert 0 < broker.ttl(f"{KEY_PREFIX}{roster.NOTE}{seen.note.host}:1") <= roster.LAPSES


def test_one_that_lapsed_is_forgotten(broker: "redis.Redis") -> None:
    roster.write(broker, note("a@here", 1))
    roster.write(broker, note("b@here", 2))
    (seen, _) = roster.read(broker)
    broker.delete(f"{KEY_PREFIX}{roster.NOTE}{seen.note.host}:1")
    assert names(broker) == ["b@here"]
    assert broker.zcard(KEY_PREFIX + roster.ROSTER) == 1


def test_one_that_ends_takes_its_note_along(broker: "redis.Redis") -> None:
    roster.write(broker, note("a@here", os.getpid()))
    roster.leave(broker)
    assert names(broker) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'{"name": 7}'])
def test_what_is_no_note_hides_none(broker: "redis.Redis", text: bytes) -> None:
    roster.write(broker, note("a@here", 1))
    broker.zadd(KEY_PREFIX + roster.ROSTER, {"odd": 1.0})
    broker.set(f"{KEY_PREFIX}{roster.NOTE}odd", text)
    assert names(broker) == ["a@here"]
