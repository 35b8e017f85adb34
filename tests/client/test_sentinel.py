"""A broker that is found through a Sentinel, by clients, workers and the command alike."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import make_url

from cli.doctor.broker import broker as check_broker
from cli.doctor.finding import OK, PROBLEM
from tests.sentinel import NAME, Sentinel
from twinvec_client import BrokerUnavailable, NoAnswer, Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, SENTINEL_TIMEOUT
from worker.broker import connect_broker


@pytest.fixture
def url(broker_url: str, tmp_path: Path) -> Iterator[str]:
    with Sentinel(tmp_path / "sentinel", host="127.0.0.1", broker=make_url(broker_url).port or 0) as sentinel:
        yield f"sentinel://127.0.0.1:1;sentinel://127.0.0.1:{sentinel.port}/0?master_name={NAME}"


def test_a_client_sends_to_the_broker_that_the_sentinels_name(broker: "redis.Redis", url: str) -> None:
    with pytest.raises(NoAnswer):
        Twinvec(url, answer_timeout=0.3).jobs()
    assert broker.llen(f"{KEY_PREFIX}control") == 2


def test_what_workers_ask_without_celery_goes_there_as_well(broker: "redis.Redis", url: str) -> None:
    broker.set("asked", "twinvec")
    with connect_broker(url, socket_timeout=5, socket_connect_timeout=3) as server:
        assert server.get("asked") == b"twinvec"


def test_the_doctor_looks_at_it(url: str) -> None:
    assert [finding.level for finding in check_broker(url)][:1] == [OK]
    (found,) = check_broker(url.replace(NAME, "unknown"))
    assert found.level == PROBLEM
    assert "No master found for 'unknown'" in found.found


def test_a_sentinel_that_knows_no_primary_of_that_name_is_a_broker_that_cannot_be_reached(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="unknown"):
        Twinvec(url.replace(NAME, "unknown"), answer_timeout=3).jobs()


def test_a_sentinel_that_is_silent_costs_seconds_and_the_next_is_asked(broker: "redis.Redis", url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tv = Twinvec(url.replace("127.0.0.1:1;", f"127.0.0.1:{silent.getsockname()[1]};"), answer_timeout=0.3)
        start = time.monotonic()
        with pytest.raises(NoAnswer):
            tv.jobs()
    assert time.monotonic() - start < 15 * SENTINEL_TIMEOUT
    assert broker.llen(f"{KEY_PREFIX}control") == 2
