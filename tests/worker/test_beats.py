"""Schedulers that run on one broker know of each other."""

import os
import socket

import redis

from tests.makers import eventually
from twinvec_client.contract.broker import KEY_PREFIX
from worker import beats
from worker.settings import Settings

ELSEWHERE = "process 7 on elsewhere"
GONE = f"process {2**22 + 1} on {socket.gethostname()}"  # above the largest pid


def test_two_schedulers_are_both_named_and_each_once(broker: "redis.Redis") -> None:
    for _ in range(3):
        beats.take_place(broker, beats.name())
        beats.take_place(broker, ELSEWHERE)
    assert beats.running(broker) == sorted([beats.name(), ELSEWHERE])
    assert len(broker.keys("twinvec:beat:*")) == 2


def test_a_note_lapses_by_itself(broker: "redis.Redis") -> None:
    beats.take_place(broker, ELSEWHERE)
    (place,) = broker.keys("twinvec:beat:*")
    broker.expire(place, 1)
    assert 0 < broker.ttl(place) <= 1
    beats.take_place(broker, ELSEWHERE)
    assert 1 < broker.ttl(place) <= beats.LAPSES


def test_a_killed_scheduler_of_this_machine_is_not_counted_while_its_note_lapses(broker: "redis.Redis") -> None:
    beats.take_place(broker, GONE)
    beats.take_place(broker, beats.name())
    assert beats.running(broker) == [beats.name()]


def test_what_is_no_note_hides_none(broker: "redis.Redis", broker_url: str) -> None:
    broker.set(KEY_PREFIX + beats.PLACES[0], "x")
    broker.sadd(KEY_PREFIX + beats.PLACES[1], "x")
    broker.set(KEY_PREFIX + beats.PLACES[2], b"\xff")
    with beats.announcing(Settings(broker_url=broker_url)):
        eventually(lambda: beats.running(broker) == [beats.name()], "its note")
    assert beats.running(broker) == []


def test_one_that_ends_takes_its_note_back_and_no_other(broker: "redis.Redis", broker_url: str) -> None:
    beats.take_place(broker, ELSEWHERE)
    with beats.announcing(Settings(broker_url=broker_url)):
        eventually(lambda: len(beats.running(broker)) == 2, "its note")
    assert beats.running(broker) == [ELSEWHERE]


def test_its_name_says_where_it_is() -> None:
    assert beats.name() == f"process {os.getpid()} on {socket.gethostname()}"
