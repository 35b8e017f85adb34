"""The fake has the client's face, and answers from memory what an application's test can compute."""

import asyncio
import inspect

import pytest

from cli.demo import strokes
from tests.scenario import scenario
from twinvec_client import AsyncTwinvec, BrokerUnavailable, Callback, InvalidRequest, Twinvec
from twinvec_client.contract.messages import FindSuspects
from twinvec_client.testing import FakeAsyncTwinvec, FakeTwinvec, Memory


def public(kind: type) -> dict[str, str]:
    return {
        name: str(inspect.signature(member)) if callable(member := getattr(kind, name)) else ""
        for name in dir(kind)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("real", "fake"), [(Twinvec, FakeTwinvec), (AsyncTwinvec, FakeAsyncTwinvec)])
def test_the_fake_has_the_face_of_the_real_one(real: type, fake: type) -> None:
    assert public(fake) == public(real)
    assert issubclass(fake, real)


def test_the_whole_scenario_runs_without_a_broker() -> None:
    assert scenario(FakeTwinvec(), "mine")[:4] == ["finished_with_failures", 2, 0, 1]


def test_a_callback_is_noted_and_not_called() -> None:
    tv = FakeTwinvec()
    job = tv.embed({"a": strokes.png(3)}, on_finish=Callback("shop.embedded", "shop"))
    ((task, queue, status),) = tv.memory.called_back
    assert (task, queue, status["id"], status["succeeded"]) == ("shop.embedded", "shop", job.id, 1)


def test_two_fakes_may_have_one_memory() -> None:
    memory = Memory()
    FakeTwinvec(memory=memory).embed({"a": strokes.png(3)})

    async def look_up() -> list[str]:
        async with FakeAsyncTwinvec(memory=memory) as tv:
            job = await tv.embed({"b": strokes.png(7)})
            assert [status.state async for status in job.follow()] == ["finished"]
            return [each.key for each in await tv.nearest(strokes.png(3))]

    assert asyncio.run(look_up()) == ["a", "b"]


def test_an_outage_and_other_answers_are_played() -> None:
    tv = FakeTwinvec()
    tv.memory.down = BrokerUnavailable()
    with pytest.raises(BrokerUnavailable):
        tv.nearest(strokes.png(3))
    tv.memory.down = None
    assert len(tv.nearest(strokes.png(3))) == 0
    with pytest.raises(InvalidRequest, match=r"twinvec\.suspects"):
        tv.suspects()
    page = {"tower": "x", "looked_at": 0, "after": None, "total": 0, "suspects": []}
    tv.memory.answer(FindSuspects, lambda asked: page)
    assert len(tv.suspects().suspects) == 0
