"""Runs calls of the synchronous client in threads of their own, so that an event loop goes on.

It must not know what they ask.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from twinvec_client.connection import Connection, StoppableConnection, Stopped
from twinvec_client.errors import TwinvecError

T = TypeVar("T")

SHORT, LONG = 8, 32  # threads, made as they are needed: of single requests, and of what takes many
STOPPING = 0.25  # seconds that a cancelled call may take to end, before its caller goes on without it
_PAGE = 20  # items of an iterator that are read at a time


class Offload:
    """Threads for the calls over one connection.

    One that is cancelled ends before its next request, or within a second of waiting for an answer; where the broker
    itself is silent, within the limits of the connection. Its caller goes on before.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._threads: dict[bool, ThreadPoolExecutor] = {}  # by whether they are for long calls
        self._running: set[StoppableConnection] = set()

    async def run(
        self,
        call: Callable[[StoppableConnection], T],
        *,
        long: bool = False,
        on_stop: Callable[[], None] | None = None,
    ) -> T:
        """What `call` returns, made in a thread with a connection that can be stopped.

        long: whether it may take many requests; such calls have threads of their own, so that none waits behind them.
        on_stop: called where the call is stopped. Raises what `call` does.
        """
        connection = StoppableConnection(self.connection, on_stop)
        return await self._settle(connection, partial(call, connection), long=long)

    async def iterate(self, items: Callable[[Connection], Iterator[T]], *, at_once: int = _PAGE) -> AsyncIterator[T]:
        """Read an iterator in a thread, some items at a time."""
        connection = StoppableConnection(self.connection)
        iterator = items(connection)
        while True:
            page: list[T] = await self._settle(connection, lambda: list(islice(iterator, at_once)))
            for item in page:
                yield item
            if len(page) < at_once:
                return

    async def close(self) -> None:
        """Stop what runs, and end the threads and the connection; a later call makes them anew."""
        with self._lock:
            ended, self._threads = list(self._threads.values()), {}
            for connection in self._running:
                connection.stop()
        for threads in ended:
            await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(self.connection.close)

    async def _settle(self, connection: StoppableConnection, call: Callable[[], T], *, long: bool = False) -> T:
        started = self._start(connection, call, long=long)
        ended = asyncio.wrap_future(started)
        try:
            return await asyncio.shield(ended)
        except Stopped:
            raise TwinvecError("the client was closed while this call was under way") from None
        except asyncio.CancelledError:
            connection.stop()
            if not started.cancel():
                try:
                    await asyncio.wait([ended], timeout=STOPPING)
                finally:
                    _forget(ended)
            raise

    def _start(self, connection: StoppableConnection, call: Callable[[], T], *, long: bool) -> Future[T]:
        with self._lock:
            if self._process != os.getpid():  # threads are not forked
                self._process, self._threads = os.getpid(), {}
            if long not in self._threads:
                name = "twinvec-long" if long else "twinvec-call"
                self._threads[long] = ThreadPoolExecutor(LONG if long else SHORT, thread_name_prefix=name)
            started = self._threads[long].submit(call)
            self._running.add(connection)
        started.add_done_callback(lambda _: self._running.discard(connection))
        return started


def _forget(ended: asyncio.Future[Any]) -> None:
    """Nobody will read its result or its error."""
    if not ended.cancel() and not ended.cancelled():
        ended.exception()
