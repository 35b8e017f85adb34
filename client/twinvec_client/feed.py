"""Hands the items of an async iterable to a thread. It must not know what the items are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

from twinvec_client.connection import Stopped

T = TypeVar("T")

AHEAD = 16  # items that may wait for the thread; asking for more takes some 0.1 ms


class _End(Exception):
    """There are no more."""


class Feed(Generic[T]):
    """An iterator for one thread, filled by a task of an event loop.

    The iterable is read in that one task, from when the thread first asks, and no further ahead of it than `AHEAD`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._handed: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """In the thread. Raises what the iterable does, and Stopped."""
        if self._handed.empty():
            with suppress(RuntimeError):  # the loop was closed: `stop` was called before
                self._loop.call_soon_threadsafe(self._wanted.set)
        handed = self._handed.get()
        if isinstance(handed, tuple):
            return handed[0]
        self._handed.put(handed)
        if isinstance(handed, _End):
            raise StopIteration
        raise handed

    def stop(self) -> None:
        """End the thread's iteration."""
        self._handed.put(Stopped())

    async def fill(self, items: AsyncIterable[T]) -> None:
        """Read the iterable to its end; an async generator is closed, however this ends."""
        try:
            await self._wanted.wait()
            async for item in items:
                self._handed.put((item,))
                while self._handed.qsize() >= AHEAD:
                    self._wanted.clear()
                    if self._handed.qsize() >= AHEAD:
                        await self._wanted.wait()
            self._handed.put(_End())
        except BaseException as error:
            self._handed.put(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
