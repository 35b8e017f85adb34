"""The client for asyncio: streams, errors, and calls that are cancelled; the loop goes on meanwhile."""

import asyncio
import contextvars
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis

from tests.client.test_delivery import Direct, picture, stream
from tests.makers import Ledger, counts, eventually, register, stored
from twinvec_client import AsyncTwinvec, BrokerUnavailable, InvalidRequest, NoAnswer, NotReady, TwinvecError
from twinvec_client.contract.messages import Message, Receipts
from twinvec_client.feed import AHEAD
from worker.runtime import Runtime


@pytest.fixture
def ledger(runtime: Runtime) -> Ledger:
    return runtime.transact


def over(direct: Direct) -> AsyncTwinvec:
    """An impatient client, ten pictures a chunk."""
    tv = AsyncTwinvec(connection=direct)
    tv.chunk, tv.resend_after, tv.accept_timeout = 10, 0.01, 5.0
    return tv


async def until(condition: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


async def read(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def arriving(count: int) -> AsyncIterator[tuple[str, Any]]:
    """Pictures that come one by one from somewhere else."""
    for item in stream(count):
        await asyncio.sleep(0)
        yield item


def test_pictures_come_as_any_iterable_that_a_job_takes_and_as_an_async_one(runtime: Runtime, ledger: Ledger) -> None:
    register(ledger)
    direct = Direct(runtime)

    async def embed() -> None:
        async with over(direct) as tv:
            for pictures in (arriving(205), stream(205), dict(stream(205))):
                job = await tv.embed(pictures, labels=lambda key: int(key[-1]))
                await asyncio.to_thread(direct.work)
                outcome = await job.wait(timeout=5)
                assert (outcome.state, outcome.succeeded + outcome.unchanged) == ("finished", 205)

    asyncio.run(embed())
    assert stored(ledger) == {key: pixels.tobytes() for key, pixels in stream(205)}


def test_a_job_is_followed_to_its_end_and_told_of_when_it_changes(runtime: Runtime, ledger: Ledger) -> None:
    register(ledger)
    direct = Direct(runtime)

    async def follow() -> list[Any]:
        async with over(direct) as tv:
            job = await tv.embed(arriving(30))
            with pytest.raises(NotReady):
                await job.wait(timeout=0)
            statuses = job.follow()
            first = await anext(statuses)
            await asyncio.to_thread(direct.work)
            return [first, *await read(statuses)]

    first, *_, last = asyncio.run(follow())
    assert (first.state, first.succeeded) == ("queued", 0)
    assert (last.state, last.succeeded) == ("finished", 30)


def test_failures_are_read_page_by_page_in_their_order(runtime: Runtime, ledger: Ledger) -> None:
    register(ledger)

    async def failed() -> list[str]:
        async with over(Direct(runtime)) as tv:
            job = await tv.embed({f"bad {at:03}": b"no picture" for at in range(45)})
            return [failure.key async for failure in job.failures()]

    assert asyncio.run(failed()) == [f"bad {at:03}" for at in range(45)]


def test_an_async_iterable_is_read_no_faster_than_it_is_sent(runtime: Runtime) -> None:
    """The window holds two chunks of ten, and nothing is accepted until the test says so."""
    read_so_far = 0
    accept = threading.Event()

    async def endless() -> AsyncIterator[tuple[str, Any]]:
        nonlocal read_so_far
        for item in stream(200):
            read_so_far += 1
            yield item

    class Full(Direct):
        def ask(self, message: Message, **options: Any) -> dict[str, Any]:
            answer = super().ask(message)
            if isinstance(message, Receipts) and not accept.is_set():
                answer["accepted"] = []
            return answer

    direct = Full(runtime)

    async def embed() -> None:
        async with over(direct) as tv:
            tv.window = 2
            sending = asyncio.create_task(tv.embed(endless()))
            await until(lambda: len(direct.sent) >= 6, "two chunks, and both sent again")
            assert read_so_far <= 2 * 10 + 1 + AHEAD
            accept.set()
            await sending

    asyncio.run(embed())
    assert read_so_far == 200


def test_an_async_iterable_is_read_in_one_task_that_sees_the_callers_context(runtime: Runtime) -> None:
    """As what was opened in a task, and must be closed in it, asks for."""
    who = contextvars.ContextVar("who", default="nobody")
    tasks, callers = set(), set()

    async def pictures() -> AsyncIterator[tuple[str, Any]]:
        async with asyncio.timeout(60):
            async for item in arriving(50):
                tasks.add(asyncio.current_task())
                callers.add(who.get())
                yield item

    async def embed() -> None:
        who.set("the caller")
        async with over(Direct(runtime)) as tv:
            await tv.embed(pictures())

    asyncio.run(embed())
    assert len(tasks) == 1
    assert callers == {"the caller"}


def test_what_an_async_iterable_raises_is_raised_and_what_was_accepted_stays(runtime: Runtime, ledger: Ledger) -> None:
    async def breaking() -> AsyncIterator[tuple[str, Any]]:
        async for item in arriving(25):
            yield item
        raise LookupError("the source broke off")

    async def embed() -> None:
        async with over(Direct(runtime)) as tv:
            with pytest.raises(LookupError, match="broke off") as raised:
                await tv.embed(breaking(), idempotency_key="stream")
            assert "keeps what was accepted" in raised.value.__notes__[0]
            assert len(stored(ledger)) == 20
            await tv.embed(arriving(40), idempotency_key="stream")

    asyncio.run(embed())
    assert len(stored(ledger)) == 40


def test_a_job_that_fails_ends_its_stream(runtime: Runtime) -> None:
    """Though the source waits, and would for ever."""
    closed = False

    async def waiting() -> AsyncIterator[tuple[str, Any]]:
        nonlocal closed
        try:
            for item in stream(40):
                yield item
            await asyncio.Event().wait()
        finally:
            closed = True

    async def embed() -> None:
        tv = over(Direct(runtime, lambda chunk: 0))
        tv.accept_timeout, tv.window = 0.1, 1
        async with tv:
            with pytest.raises(NoAnswer, match="intake"):
                await tv.embed(waiting())

    asyncio.run(embed())
    assert closed


def test_what_is_no_stream_is_refused_as_by_the_other_face(runtime: Runtime) -> None:
    async def embed() -> None:
        async with over(Direct(runtime)) as tv:
            for wrong in (7, "path", [1]):
                with pytest.raises(InvalidRequest):
                    await tv.embed(wrong)

    asyncio.run(embed())


def threads() -> list[str]:
    """Those that make calls."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("twinvec-call", "twinvec-long"))]


async def cancelled(awaitable: Awaitable[Any], when: Callable[[], Any]) -> None:
    """Await it in a task, and cancel that when a condition holds."""
    task = asyncio.ensure_future(awaitable)
    await until(when, "the moment to cancel")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_stream_ends_at_once_and_leaves_nothing_running(runtime: Runtime, ledger: Ledger) -> None:
    """Where its source waits, and where the workers' acceptance is waited for."""
    direct = Direct(runtime)
    closed: list[str] = []

    async def waiting() -> AsyncIterator[tuple[str, Any]]:
        try:
            for item in stream(25):
                yield item
            await asyncio.Event().wait()
        finally:
            closed.append("stream")

    def iterator() -> Iterator[tuple[str, Any]]:
        yield from stream(25)
        while True:
            yield "more", picture(1)

    async def embed() -> None:
        tv = over(direct)
        await cancelled(tv.embed(waiting()), lambda: len(direct.sent) == 2)
        assert closed == ["stream"]
        await cancelled(tv.embed(iterator()), lambda: len(direct.sent) >= 4)
        sent = len(direct.sent)
        assert all(call.done() for call in asyncio.all_tasks() - {asyncio.current_task()})
        job = await tv.embed(stream(10), collection="after")
        assert len(direct.sent) <= sent + 2
        assert counts(ledger, uuid.UUID(job.id))["accepted"] == 10
        await tv.close()

    asyncio.run(embed())
    assert threads() == []


def test_a_cancelled_request_ends_though_no_worker_answers(broker: "redis.Redis", broker_url: str) -> None:
    async def ask() -> None:
        tv = AsyncTwinvec(broker_url)
        loop = asyncio.get_running_loop()
        for _ in range(20):  # more than there are threads
            start = loop.time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await tv.jobs()
            assert loop.time() - start < 1
        await tv.close()

    asyncio.run(ask())
    assert threads() == []


def test_a_client_that_is_closed_ends_what_waits_and_works_again(broker: "redis.Redis", broker_url: str) -> None:
    def connected() -> int:
        return len(broker.client_list())

    before = connected()

    async def ask() -> None:
        tv = AsyncTwinvec(broker_url)
        for _ in range(2):
            waits = asyncio.create_task(tv.jobs())
            await until(lambda: broker.llen("twinvec:control"), "the request")
            await tv.close()
            with pytest.raises(TwinvecError, match="closed"):
                await waits
            broker.delete("twinvec:control")

    asyncio.run(ask())
    eventually(lambda: connected() <= before, "the end of its connections")


def test_one_client_serves_one_loop_after_another(worker: None, broker_url: str) -> None:
    tv = AsyncTwinvec(broker_url)
    assert asyncio.run(tv.jobs()) == []
    assert asyncio.run(tv.jobs(limit=1)) == []
    asyncio.run(tv.close())


def test_there_is_no_broker_for_either_face() -> None:
    async def ask() -> None:
        async with AsyncTwinvec("redis://127.0.0.1:1/0") as tv:
            with pytest.raises(BrokerUnavailable):
                await tv.jobs()

    asyncio.run(ask())


def test_the_threads_of_one_face_serve_many_who_follow(runtime: Runtime, ledger: Ledger) -> None:
    """More jobs than there are threads are waited for, and other questions are answered meanwhile."""
    register(ledger)
    direct = Direct(runtime)

    async def follow() -> list[str]:
        async with over(direct) as tv:
            made = [await tv.embed({f"{at}": picture(at)}) for at in range(40)]
            waiting = [asyncio.create_task(job.wait(timeout=20)) for job in made]
            await asyncio.wait_for(made[0].status(), 5)
            await asyncio.to_thread(direct.work)
            return [(await each).state for each in waiting]

    assert asyncio.run(follow()) == ["finished"] * 40
