"""The client for asyncio on the whole product; and that jobs which are followed are not asked for at intervals."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.stack.conftest import Stack
from twinvec_client import Answer, AsyncTwinvec, TrainingFailed, TrainingJob, Twinvec, UnknownJob, UnknownKey
from twinvec_client.connection import Connection
from twinvec_client.contract.messages import Message, StatusOf
from twinvec_client.watch import Watch

Digits = tuple[np.ndarray, np.ndarray]


class Counting(Connection):
    """It counts what it asks."""

    def __init__(self, broker_url: str) -> None:
        super().__init__(broker_url)
        self.asked: list[type[Message]] = []

    def ask(self, message: Message, **options: Any) -> dict[str, Any]:
        self.asked.append(type(message))
        return super().ask(message, **options)


def client_of(stack: Stack) -> AsyncTwinvec:
    return AsyncTwinvec(stack.broker_url)


async def arriving(images: np.ndarray, count: int) -> AsyncIterator[tuple[str, Any]]:
    """Pictures that come one by one from somewhere else."""
    for at in range(count):
        await asyncio.sleep(0)
        yield f"{at}", images[at % len(images)]


async def ticks(gaps: list[float]) -> None:
    """Note how long each round of the loop took; for ever."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


def test_every_call_answers_as_on_the_other_face(stack: Stack, tower: dict[str, Any], digits: Digits) -> None:
    images, labels = digits
    plain = stack.client()

    async def use() -> None:
        async with client_of(stack) as tv:
            job = await tv.embed(arriving(images, 60), collection="async", labels=lambda key: int(labels[int(key)]))
            assert (await job.wait(timeout=60)).succeeded == 60
            assert [status.state async for status in job.follow()] == ["finished"]
            assert (await job.status()) == plain.job(job.id).status()
            assert [digit async for digit in job.doubtful()] == list(as_embedded(plain, job.id).doubtful())
            again = await tv.job(job.id)
            assert (type(again), again.id) == (type(job), job.id)
            found = await tv.nearest(images[3], k=3, collection="async")
            assert neighbours([found]) == neighbours([plain.nearest(images[3], k=3, collection="async")])
            many = await tv.nearest_many(keys=["1", "2"], collection="async", match=True)
            assert neighbours(many) == neighbours(plain.nearest_many(keys=["1", "2"], collection="async", match=True))
            assert await tv.towers() == plain.towers()
            assert [each.id for each in await tv.jobs()] == [each.id for each in plain.jobs()]
            assert await tv.dead_batches() == plain.dead_batches()
            assert await tv.suspects(collection="async") == plain.suspects(collection="async")
            assert await tv.duplicates(collection="async") == plain.duplicates(collection="async")
            assert await tv.map(collection="async") == plain.map(collection="async")
            mixed = await tv.embed({"good": images[0], "bad": b"no picture"}, collection="async mixed")
            assert (await mixed.wait(timeout=60)).failed == 1
            assert [failure.key async for failure in mixed.failures(pictures=True)] == ["bad"]
            retried = await mixed.retry()
            assert (await retried.wait(timeout=60)).failed == 1
            assert (await retried.cancel()).state == "finished_with_failures"
            with pytest.raises(UnknownJob):
                await tv.job("00000000-0000-4000-8000-00000000dead")
            with pytest.raises(UnknownKey):
                await tv.nearest(key="nobody", collection="async")

    asyncio.run(use())


def neighbours(answers: list[Answer]) -> list[Any]:
    return [(answer.neighbours, answer.match, answer.tower) for answer in answers]


def as_embedded(tv: Twinvec, id: str) -> Any:
    job = tv.job(id)
    assert not isinstance(job, TrainingJob)
    return job


def test_a_training_is_followed_to_its_end(stack: Stack, tower: dict[str, Any]) -> None:
    async def train() -> list[str]:
        states: list[str] = []
        async with client_of(stack) as tv:
            job = await tv.train(recipe="default", seed=11)
            async for status in job.follow(timeout=120):
                states.append(status.state)
                if status.state == "running":
                    await job.cancel()
            with pytest.raises(TrainingFailed, match="cancelled"):
                await job.wait(timeout=60)
        return states

    states = asyncio.run(train())
    assert states[-2:] == ["running", "cancelled"]


def test_the_event_loop_goes_on_while_pictures_are_sent_and_looked_up(
    stack: Stack, tower: dict[str, Any], digits: Digits
) -> None:
    """Its longest round is a fraction of a call; the best of three counts, for the machine may be busy with others."""
    images, _ = digits

    async def use() -> float:
        gaps: list[float] = []
        async with client_of(stack) as tv:
            ticking = asyncio.create_task(ticks(gaps))
            sending = asyncio.create_task(tv.embed(arriving(images, 6000), collection="ticking"))
            while not sending.done():
                await tv.nearest_many(list(images[:20]), k=3)
            await (await sending).wait(timeout=120)
            ticking.cancel()
        return max(gaps)

    longest: list[float] = []
    while len(longest) < 3 and (not longest or min(longest) > 0.1):
        longest.append(asyncio.run(use()))
    assert min(longest) < 0.1, f"the loop stood still for {longest} s"


def test_a_wait_needs_no_polling(
    stack: Stack, tower: dict[str, Any], digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without announcements it would ask before the batch has ended, and then after half a minute."""
    monkeypatch.setattr(Watch, "pause", lambda watch, *, subscribed: 30.0)
    images, _ = digits
    connection = Counting(stack.broker_url)
    with Twinvec(connection=connection) as tv:
        start = time.monotonic()
        for at in range(10):
            job = tv.embed({f"{at}": images[at]}, collection="announced")
            assert job.wait(timeout=60).state == "finished"
        assert time.monotonic() - start < 30
    assert connection.asked.count(StatusOf) <= 30, "before the subscription, after it, and at the end"
