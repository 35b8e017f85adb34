"""Handles of jobs for asyncio, as `job` has them for threads. Must not know the face of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

from twinvec_client import bars
from twinvec_client.connection import Connection
from twinvec_client.delivery import Pace, require_all
from twinvec_client.job import EmbedJob, TrainingJob, embed_outcome, training_outcome
from twinvec_client.mirror import mirrors
from twinvec_client.offload import Offload
from twinvec_client.results import DoubtfulDigit, EmbedOutcome, Failure, JobStatus, Pause, TrainingOutcome
from twinvec_client.vectors import Vectors
from twinvec_client.watch import SUBSCRIBING, Ended, Watch

Job = TypeVar("Job", EmbedJob, TrainingJob)


class _AsyncJob(Generic[Job]):
    def __init__(self, offload: Offload, id: str, pace: Pace, ended: Ended | None = None) -> None:
        self._offload, self._pace, self._ended = offload, pace, ended
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def _over(self, connection: Connection) -> Job:
        """The same job for threads."""
        raise NotImplementedError

    @mirrors(EmbedJob.status)
    async def status(self) -> JobStatus:
        return await self._offload.run(lambda connection: self._over(connection).status())

    @mirrors(EmbedJob.cancel)
    async def cancel(self) -> JobStatus:
        return await self._offload.run(lambda connection: self._over(connection).cancel())

    @mirrors(EmbedJob.pause)
    async def pause(self, *, why: str | None = None) -> Pause:
        return await self._offload.run(lambda connection: self._over(connection).pause(why=why))

    @mirrors(EmbedJob.resume)
    async def resume(self) -> bool:
        return await self._offload.run(lambda connection: self._over(connection).resume())

    @mirrors(EmbedJob.follow)
    async def follow(self, *, timeout: float | None = None) -> AsyncGenerator[JobStatus]:
        if self._ended is not None and (status := self._ended.take()) is not None:
            yield status
            return
        watch, told, loop = Watch(self.id, self._pace, timeout), asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed, and this iterator forgotten
                loop.call_soon_threadsafe(told.set)

        with self._offload.connection.follow(self.id, tell) as follower:
            await _wait(told, SUBSCRIBING)
            while True:
                told.clear()
                status = await self._offload.run(watch.read)
                if status is not None:
                    yield status
                    if status.final:
                        return
                await _wait(told, watch.pause(subscribed=follower.subscribed))
                await asyncio.sleep(watch.gap())


class AsyncEmbedJob(_AsyncJob[EmbedJob]):
    """An `EmbedJob` for asyncio."""

    def __init__(
        self, offload: Offload, id: str, pace: Pace, *, delivered: bool = False, ended: Ended | None = None
    ) -> None:
        super().__init__(offload, id, pace, ended)
        self._delivered = delivered

    def _over(self, connection: Connection) -> EmbedJob:
        return EmbedJob(connection, self.id, self._pace, delivered=self._delivered)

    @mirrors(EmbedJob.wait)
    async def wait(self, *, timeout: float | None = None, progress: bool = False) -> EmbedOutcome:
        with bars.bar(progress, "embed") as bar:
            async with aclosing(self.follow(timeout=timeout)) as statuses:
                async for status in statuses:
                    bar.embedding(status)
                    if self._delivered:
                        require_all(self.id, status.state)
        return embed_outcome(status)

    @mirrors(EmbedJob.failures)
    def failures(self, *, pictures: bool = False, after: str = "") -> AsyncIterator[Failure]:
        return self._offload.iterate(lambda connection: self._over(connection).failures(pictures=pictures, after=after))

    @mirrors(EmbedJob.failures_of)
    async def failures_of(self, key: str) -> list[Failure]:
        return await self._offload.run(lambda connection: self._over(connection).failures_of(key))

    @mirrors(EmbedJob.doubtful)
    def doubtful(self, *, pictures: bool = False) -> AsyncIterator[DoubtfulDigit]:
        return self._offload.iterate(lambda connection: self._over(connection).doubtful(pictures=pictures))

    @mirrors(EmbedJob.vectors)
    async def vectors(self) -> Vectors:
        return await self._offload.run(lambda connection: self._over(connection).vectors(), long=True)

    @mirrors(EmbedJob.retry)
    async def retry(self, *, normalise: bool = True, progress: bool = False) -> AsyncEmbedJob:
        def retry(connection: Connection) -> EmbedJob:
            return self._over(connection).retry(normalise=normalise, progress=progress)

        again = await self._offload.run(retry, long=True)
        return AsyncEmbedJob(self._offload, again.id, self._pace, delivered=True, ended=again._ended)


class AsyncTrainingJob(_AsyncJob[TrainingJob]):
    """A `TrainingJob` for asyncio."""

    def _over(self, connection: Connection) -> TrainingJob:
        return TrainingJob(connection, self.id, self._pace)

    @mirrors(TrainingJob.stop)
    async def stop(self) -> JobStatus:
        return await self._offload.run(lambda connection: self._over(connection).stop())

    @mirrors(TrainingJob.wait)
    async def wait(
        self,
        *,
        timeout: float | None = None,
        progress: bool = False,
        on_status: Callable[[JobStatus], None] | None = None,
    ) -> TrainingOutcome:
        with bars.bar(progress, "train") as bar:
            async with aclosing(self.follow(timeout=timeout)) as statuses:
                async for status in statuses:
                    bar.training(status)
                    if on_status is not None:
                        on_status(status)
        return training_outcome(status)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
