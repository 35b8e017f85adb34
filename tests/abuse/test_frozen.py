"""A process that the machine does not run for a while (SIGSTOP, a paused container): `doctor` says what stands still,
who does not need it is answered meanwhile, and who does within seconds of its going on."""

import signal
import time
from collections.abc import Iterator

import pytest
import redis

from tests.chaos.doctor import ask_doctor
from tests.chaos.fleet import Fleet
from tests.chaos.member import send
from tests.chaos.pictures import noise
from twinvec_client import NoAnswer, Twinvec
from worker import beats

CREW = {"front": "query,control,express", "intake": "intake", "embedder": "embed,backfill,train", "beat": ""}
ANSWERED = 10.0  # seconds within which an honest caller is answered once all run again

pytestmark = pytest.mark.usefixtures("costly")


@pytest.fixture(scope="module")
def fleet(costly: None) -> Iterator[Fleet]:
    with Fleet(CREW) as fleet:
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Twinvec:
    return Twinvec(fleet.broker.url, answer_timeout=ANSWERED)


def test_a_frozen_embedder_and_a_frozen_scheduler_are_told_and_small_jobs_go_on(fleet: Fleet, client: Twinvec) -> None:
    pool, scheduler = fleet.members["embedder"].pool(), fleet.faults.freeze("beat")
    send(pool, signal.SIGSTOP)
    try:
        large = client.embed(noise(40, seed=1, prefix="large/"))
        with redis.Redis.from_url(fleet.broker.url) as broker:
            fleet.until(lambda: not beats.running(broker), "the end of what the scheduler noted", within=30)
        assert client.embed(noise(3, seed=2, prefix="small/")).wait(timeout=ANSWERED).succeeded == 3
        assert client.nearest(key="small/000001", k=1).neighbours
        said = " | ".join(ask_doctor(fleet).problems)
        assert "beat: none runs" in said
        assert "embed: a worker listens, and no probe came back within 10 s" in said
        assert large.status().succeeded == 0
    finally:
        send([*pool, *scheduler], signal.SIGCONT)
    assert large.wait(timeout=ANSWERED).succeeded == 40


def test_a_frozen_front_is_told_and_its_callers_get_a_sentence_and_then_an_answer(
    fleet: Fleet, client: Twinvec
) -> None:
    front = fleet.faults.freeze("front")
    try:
        with pytest.raises(NoAnswer, match="no worker answered on the lane `control`"):
            Twinvec(fleet.broker.url, answer_timeout=1).jobs()
        with fleet.lanes.redis() as broker:
            fleet.until(lambda: not broker.exists(fleet.lanes.key("listening:query")), "the end of what it noted")
        assert any("none on query" in problem for problem in ask_doctor(fleet).problems)
    finally:
        fleet.faults.thaw(front)
    start = time.monotonic()
    assert client.jobs()
    assert client.embed(noise(3, seed=3, prefix="after/")).wait(timeout=ANSWERED).succeeded == 3
    assert time.monotonic() - start < ANSWERED
    fleet.until(lambda: not ask_doctor(fleet).problems, "no problem any more", within=60)
    assert {member.starts for member in fleet.members.values()} == {1}
