"""The face of the client for asyncio: the calls of `client`, made in threads, so that the event loop goes on.

It must not know what travels: there is one implementation, and it is the synchronous one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, Self, TypeVar

from twinvec_client.async_job import AsyncEmbedJob, AsyncTrainingJob
from twinvec_client.callback import Callback
from twinvec_client.chunks import Attributes, Labels
from twinvec_client.client import Twinvec
from twinvec_client.connection import Connection, StoppableConnection
from twinvec_client.contract.broker import PREFIX
from twinvec_client.contract.reasons import Reason
from twinvec_client.contract.states import JobKind, JobState, PausableLane, TrainingData
from twinvec_client.delivery import Pace
from twinvec_client.feed import Feed
from twinvec_client.job import EmbedJob
from twinvec_client.mirror import mirrors
from twinvec_client.offload import Offload
from twinvec_client.results import (
    Action,
    Answer,
    Backfills,
    Collection,
    DeadBatch,
    Deleted,
    DigitsPage,
    Duplicates,
    JobStatus,
    Judgement,
    Map,
    Overview,
    PairToJudge,
    Pause,
    Schedule,
    StoredDigit,
    Suspects,
    Tower,
    TowerChange,
)
from twinvec_client.vectors import Vectors

T = TypeVar("T")


class AsyncTwinvec:
    """A `Twinvec` for asyncio, with the same names, arguments, records and errors.

    Calls are made in threads of its own, so that none blocks the event loop; as many as you like may be under way.
    A task that is cancelled while it waits here ends its call with it: what was accepted of a job stays, and goes on
    where the same pictures are sent under the same idempotency key. It may be used by one event loop after another.
    `async with AsyncTwinvec(...) as tv` ends its threads and connections, as `close` does.
    """

    chunk = Pace.chunk
    window = Pace.window
    window_bytes = Pace.window_bytes
    resend_after = Pace.resend_after
    accept_timeout = Pace.accept_timeout
    outage = Pace.outage
    pause_timeout = Pace.pause_timeout

    def __init__(
        self,
        broker_url: str = "redis://localhost:6379/0",
        *,
        prefix: str = PREFIX,
        answer_timeout: float = 30.0,
        installation: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        if connection is None:
            connection = Connection(broker_url, answer_timeout, prefix=prefix, installation=installation)
        self._offload = Offload(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @mirrors(Twinvec.close)
    async def close(self) -> None:
        """Calls that are under way end with a TwinvecError."""
        await self._offload.close()

    @property
    def answer_timeout(self) -> float:
        return self._offload.connection.answer_timeout

    @mirrors(Twinvec.embed)
    async def embed(
        self,
        pictures: Any,
        *,
        keys: Sequence[str] | None = None,
        collection: str = "default",
        labels: Labels = None,
        attributes: Attributes = None,
        idempotency_key: str | None = None,
        normalise: bool = True,
        priority: int = 1,
        on_finish: Callback | None = None,
        progress: bool = False,
    ) -> AsyncEmbedJob:
        """pictures may be an async iterable of pairs or paths as well: it is read in a task of this event loop, as fast
        as its pictures are taken. An iterable that is not, and functions of `labels` and `attributes`, are called in a
        thread.
        """

        def embed(tv: Twinvec, pictures: Any) -> EmbedJob:
            return tv.embed(
                pictures,
                keys=keys,
                collection=collection,
                labels=labels,
                attributes=attributes,
                idempotency_key=idempotency_key,
                normalise=normalise,
                priority=priority,
                on_finish=on_finish,
                progress=progress,
            )

        if isinstance(pictures, AsyncIterable) and not isinstance(pictures, Iterable):
            job = await self._send(embed, pictures)
        else:
            job = await self._offload.run(
                lambda connection: embed(self._over(connection), _stoppable(pictures, connection)), long=True
            )
        return self._embed_job(job, delivered=True)

    @mirrors(Twinvec.nearest)
    async def nearest(
        self,
        picture: Any = None,
        *,
        key: str | None = None,
        vector: Any = None,
        tower: str | None = None,
        after: str | None = None,
        k: int = 5,
        collection: str | Sequence[str] | None = None,
        label: int | None = None,
        attributes: dict[str, Any] | None = None,
        max_distance: float | None = None,
        match: bool = False,
        pictures: bool = False,
        normalise: bool = True,
    ) -> Answer:
        return await self._run(
            lambda tv: tv.nearest(
                picture,
                key=key,
                vector=vector,
                tower=tower,
                after=after,
                k=k,
                collection=collection,
                label=label,
                attributes=attributes,
                max_distance=max_distance,
                match=match,
                pictures=pictures,
                normalise=normalise,
            )
        )

    @mirrors(Twinvec.nearest_many)
    async def nearest_many(
        self,
        pictures: Sequence[Any] | None = None,
        *,
        keys: Sequence[str] | None = None,
        vectors: Any = None,
        tower: str | None = None,
        k: int = 5,
        collection: str | Sequence[str] | None = None,
        label: int | None = None,
        attributes: dict[str, Any] | None = None,
        max_distance: float | None = None,
        match: bool = False,
        normalise: bool = True,
    ) -> list[Answer]:
        return await self._run(
            lambda tv: tv.nearest_many(
                pictures,
                keys=keys,
                vectors=vectors,
                tower=tower,
                k=k,
                collection=collection,
                label=label,
                attributes=attributes,
                max_distance=max_distance,
                match=match,
                normalise=normalise,
            ),
            long=True,
        )

    @mirrors(Twinvec.suspects)
    async def suspects(
        self,
        *,
        collection: str | None = None,
        limit: int = 100,
        most: int | None = None,
        pictures: bool = False,
        progress: bool = False,
    ) -> Suspects:
        return await self._run(
            lambda tv: tv.suspects(collection=collection, limit=limit, most=most, pictures=pictures, progress=progress),
            long=True,
        )

    @mirrors(Twinvec.duplicates)
    async def duplicates(
        self,
        *,
        distance: float | None = None,
        collection: str | None = None,
        limit: int = 100,
        most: int | None = None,
        pictures: bool = False,
        progress: bool = False,
    ) -> Duplicates:
        return await self._run(
            lambda tv: tv.duplicates(
                distance=distance,
                collection=collection,
                limit=limit,
                most=most,
                pictures=pictures,
                progress=progress,
            ),
            long=True,
        )

    @mirrors(Twinvec.map)
    async def map(self, *, collection: str | None = None, most: int = 20_000, progress: bool = False) -> Map:
        return await self._run(lambda tv: tv.map(collection=collection, most=most, progress=progress), long=True)

    @mirrors(Twinvec.collections)
    async def collections(self) -> list[Collection]:
        return await self._run(lambda tv: tv.collections())

    @mirrors(Twinvec.digits)
    def digits(
        self, *, collection: str | None = None, label: int | None = None, pictures: bool = False
    ) -> AsyncIterator[StoredDigit]:
        return self._iterate(lambda tv: tv.digits(collection=collection, label=label, pictures=pictures))

    @mirrors(Twinvec.digits_page)
    async def digits_page(
        self,
        *,
        collection: str | None = None,
        label: int | None = None,
        after: int = 0,
        limit: int = 100,
        pictures: bool = False,
    ) -> DigitsPage:
        return await self._run(
            lambda tv: tv.digits_page(collection=collection, label=label, after=after, limit=limit, pictures=pictures)
        )

    @mirrors(Twinvec.get)
    async def get(self, key: str, *, collection: str = "default") -> StoredDigit:
        return await self._run(lambda tv: tv.get(key, collection=collection))

    @mirrors(Twinvec.get_many)
    def get_many(
        self, keys: Iterable[str], *, collection: str = "default", pictures: bool = False
    ) -> AsyncIterator[StoredDigit]:
        return self._iterate(lambda tv: tv.get_many(keys, collection=collection, pictures=pictures))

    @mirrors(Twinvec.vectors)
    async def vectors(self, keys: Iterable[str], *, collection: str = "default") -> Vectors:
        return await self._run(lambda tv: tv.vectors(keys, collection=collection), long=True)

    @mirrors(Twinvec.vector_pages)
    def vector_pages(self, *, collection: str | None = None, progress: bool = False) -> AsyncIterator[Vectors]:
        return self._iterate(lambda tv: tv.vector_pages(collection=collection, progress=progress), at_once=1)

    @mirrors(Twinvec.label)
    async def label(self, labels: Mapping[str, int | None], *, collection: str = "default") -> list[str]:
        return await self._run(lambda tv: tv.label(labels, collection=collection), long=True)

    @mirrors(Twinvec.set_attributes)
    async def set_attributes(
        self, attributes: Mapping[str, dict[str, Any] | None], *, collection: str = "default"
    ) -> list[str]:
        return await self._run(lambda tv: tv.set_attributes(attributes, collection=collection), long=True)

    @mirrors(Twinvec.delete)
    async def delete(self, keys: Iterable[str], *, collection: str = "default") -> Deleted:
        return await self._run(lambda tv: tv.delete(keys, collection=collection), long=True)

    @mirrors(Twinvec.delete_collection)
    async def delete_collection(self, collection: str) -> Deleted:
        return await self._run(lambda tv: tv.delete_collection(collection), long=True)

    @mirrors(Twinvec.judge)
    async def judge(
        self,
        one: str,
        other: str,
        *,
        same: bool | None,
        collection: str = "default",
        other_collection: str | None = None,
        by: str | None = None,
    ) -> None:
        await self._run(
            lambda tv: tv.judge(one, other, same=same, collection=collection, other_collection=other_collection, by=by)
        )

    @mirrors(Twinvec.judge_many)
    async def judge_many(
        self,
        pairs: Iterable[tuple[str, str, bool | None]],
        *,
        collection: str = "default",
        other_collection: str | None = None,
        by: str | None = None,
    ) -> list[tuple[str, str]]:
        return await self._run(
            lambda tv: tv.judge_many(pairs, collection=collection, other_collection=other_collection, by=by),
            long=True,
        )

    @mirrors(Twinvec.judgements)
    def judgements(self, *, collection: str | None = None) -> AsyncIterator[Judgement]:
        return self._iterate(lambda tv: tv.judgements(collection=collection))

    @mirrors(Twinvec.pairs_to_judge)
    async def pairs_to_judge(
        self, *, collection: str | None = None, limit: int = 20, most: int = 3000, progress: bool = False
    ) -> list[PairToJudge]:
        return await self._run(
            lambda tv: tv.pairs_to_judge(collection=collection, limit=limit, most=most, progress=progress), long=True
        )

    @mirrors(Twinvec.train)
    async def train(
        self,
        *,
        recipe: str = "default",
        seed: int = 0,
        on_finish: Callback | None = None,
        started_by: str | None = None,
    ) -> AsyncTrainingJob:
        job = await self._run(lambda tv: tv.train(recipe=recipe, seed=seed, on_finish=on_finish, started_by=started_by))
        return AsyncTrainingJob(self._offload, job.id, self._pace())

    @mirrors(Twinvec.retrain)
    async def retrain(
        self,
        *,
        data: TrainingData = "both",
        recipe: str = "default",
        seed: int | None = None,
        on_finish: Callback | None = None,
        started_by: str | None = None,
    ) -> AsyncTrainingJob:
        job = await self._run(
            lambda tv: tv.retrain(data=data, recipe=recipe, seed=seed, on_finish=on_finish, started_by=started_by)
        )
        return AsyncTrainingJob(self._offload, job.id, self._pace())

    @mirrors(Twinvec.schedule)
    async def schedule(self) -> Schedule:
        return await self._run(lambda tv: tv.schedule())

    @mirrors(Twinvec.towers)
    async def towers(self) -> list[Tower]:
        return await self._run(lambda tv: tv.towers())

    @mirrors(Twinvec.backfill)
    async def backfill(self) -> Backfills:
        return await self._run(lambda tv: tv.backfill())

    @mirrors(Twinvec.promote)
    async def promote(self, tower: int, *, force: bool = False) -> TowerChange:
        return await self._run(lambda tv: tv.promote(tower, force=force))

    @mirrors(Twinvec.rollback)
    async def rollback(self, *, at_once: bool = False) -> TowerChange:
        return await self._run(lambda tv: tv.rollback(at_once=at_once))

    @mirrors(Twinvec.retire)
    async def retire(self, tower: int) -> TowerChange:
        return await self._run(lambda tv: tv.retire(tower))

    @mirrors(Twinvec.judge_tower)
    async def judge_tower(self, tower: int) -> TowerChange:
        return await self._run(lambda tv: tv.judge_tower(tower))

    @mirrors(Twinvec.jobs)
    async def jobs(self, *, limit: int = 20) -> list[JobStatus]:
        return await self._run(lambda tv: tv.jobs(limit=limit))

    @mirrors(Twinvec.overview)
    async def overview(self, *, jobs: int = 10) -> Overview:
        return await self._run(lambda tv: tv.overview(jobs=jobs))

    @mirrors(Twinvec.pause)
    async def pause(self, *, lane: PausableLane | None = None, job: str | None = None, why: str | None = None) -> Pause:
        return await self._run(lambda tv: tv.pause(lane=lane, job=job, why=why))

    @mirrors(Twinvec.drain)
    async def drain(self, lane: PausableLane, *, why: str | None = None) -> Pause:
        return await self._run(lambda tv: tv.drain(lane, why=why))

    @mirrors(Twinvec.resume)
    async def resume(self, *, lane: PausableLane | None = None, job: str | None = None) -> bool:
        return await self._run(lambda tv: tv.resume(lane=lane, job=job))

    @mirrors(Twinvec.actions)
    async def actions(self, *, limit: int = 100) -> list[Action]:
        return await self._run(lambda tv: tv.actions(limit=limit))

    @mirrors(Twinvec.unfinished_jobs)
    async def unfinished_jobs(
        self,
        *,
        collection: str | None = None,
        kind: JobKind | None = None,
        state: JobState | None = None,
        since: float | timedelta | None = None,
    ) -> list[JobStatus]:
        return await self._run(
            lambda tv: tv.unfinished_jobs(collection=collection, kind=kind, state=state, since=since)
        )

    @mirrors(Twinvec.cancel_jobs)
    async def cancel_jobs(
        self,
        *,
        collection: str | None = None,
        kind: JobKind | None = None,
        state: JobState | None = None,
        since: float | timedelta | None = None,
    ) -> list[JobStatus]:
        return await self._run(
            lambda tv: tv.cancel_jobs(collection=collection, kind=kind, state=state, since=since), long=True
        )

    @mirrors(Twinvec.retry_failures)
    async def retry_failures(
        self,
        *,
        since: float | timedelta | None = None,
        reason: Reason | None = None,
        collection: str | None = None,
        normalise: bool = True,
        progress: bool = False,
    ) -> list[AsyncEmbedJob]:
        jobs = await self._run(
            lambda tv: tv.retry_failures(
                since=since, reason=reason, collection=collection, normalise=normalise, progress=progress
            ),
            long=True,
        )
        return [self._embed_job(job, delivered=True) for job in jobs]

    @mirrors(Twinvec.dead_batches)
    async def dead_batches(self, *, limit: int = 100) -> list[DeadBatch]:
        return await self._run(lambda tv: tv.dead_batches(limit=limit))

    @mirrors(Twinvec.requeue)
    async def requeue(self, batch: int) -> AsyncEmbedJob:
        return self._embed_job(await self._run(lambda tv: tv.requeue(batch)))

    @mirrors(Twinvec.job)
    async def job(self, id: str) -> AsyncEmbedJob | AsyncTrainingJob:
        job = await self._run(lambda tv: tv.job(id))
        if isinstance(job, EmbedJob):
            return self._embed_job(job)
        return AsyncTrainingJob(self._offload, job.id, self._pace())

    async def _send(self, embed: Callable[[Twinvec, Any], EmbedJob], pictures: AsyncIterable[Any]) -> EmbedJob:
        """Send what a task of this loop reads, which ends with the call."""
        feed = Feed[Any]()
        reading = asyncio.create_task(feed.fill(pictures))
        try:
            return await self._offload.run(
                lambda connection: embed(self._over(connection), feed), long=True, on_stop=feed.stop
            )
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _run(self, call: Callable[[Twinvec], T], *, long: bool = False) -> T:
        return await self._offload.run(lambda connection: call(self._over(connection)), long=long)

    def _iterate(self, items: Callable[[Twinvec], Iterator[T]], **how: int) -> AsyncIterator[T]:
        return self._offload.iterate(lambda connection: items(self._over(connection)), **how)

    def _over(self, connection: Connection) -> Twinvec:
        """The same client for threads."""
        tv = Twinvec(connection=connection)
        for field in fields(Pace):
            setattr(tv, field.name, getattr(self, field.name))
        return tv

    def _pace(self) -> Pace:
        return Pace(**{field.name: getattr(self, field.name) for field in fields(Pace)})

    def _embed_job(self, job: EmbedJob, *, delivered: bool = False) -> AsyncEmbedJob:
        return AsyncEmbedJob(self._offload, job.id, self._pace(), delivered=delivered, ended=job._ended)


def _stoppable(pictures: Any, connection: StoppableConnection) -> Any:
    """An iterator that ends where the call is stopped; of what has a length, a chunk is read at a time anyway."""
    if not isinstance(pictures, Iterator):
        return pictures

    def read() -> Iterator[Any]:
        for picture in pictures:
            connection.check()
            yield picture

    return read()
