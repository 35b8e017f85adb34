"""Notices of workers that a job has got on, over one connection for all who follow jobs of one client.

It must not know a job's status: a notice decides nothing, and only says that it is worth asking.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

from twinvec_client.contract.broker import job_channel

log = logging.getLogger(__name__)

KEPT = 30.0  # seconds that the connection stays open when nobody follows a job any more
SILENT = 30.0  # seconds without any message, after which it is made anew: networks forget connections
RETRY_AFTER = 10.0  # seconds, where the broker is away or refuses the subscription


class Follower:
    """One who follows what is announced on a channel.

    tell: called, from another thread, when it is worth asking for the status. subscribed: whether the broker sends
    the job's notices now; `tell` is called when it begins or ends.
    """

    def __init__(self, channel: str, tell: Callable[[], None]) -> None:
        self.channel, self.tell = channel, tell
        self.subscribed = False


class Notices:
    """A thread that reads them while there is somebody who follows a job.

    connect: a client of the broker, for that thread alone. keys: what the installation's keys begin with. It is of the
    process that made it.
    """

    def __init__(self, connect: Callable[[], redis.Redis], keys: str) -> None:
        self.process = os.getpid()
        self._connect, self._keys = connect, keys
        self._lock = threading.RLock()  # the collector may end a forgotten `follow` anywhere, also under it
        self._followers: set[Follower] = set()
        self._waker: socket.socket | None = None  # None where no thread runs
        self._refused = False  # whether the last try to connect or to subscribe failed

    @contextmanager
    def of(self, job: str, tell: Callable[[], None]) -> Iterator[Follower]:
        """Follow a job while the block runs."""
        follower = Follower(job_channel(job, self._keys), tell)
        with self._lock:
            self._followers.add(follower)
            if self._waker is None:
                self._waker = self._start()
            elif self._refused:
                tell()
        self._wake()
        try:
            yield follower
        finally:
            with self._lock:
                self._followers.discard(follower)
            self._wake()

    def close(self) -> None:
        """End the thread and its connection. Those who still follow a job ask at intervals."""
        if self.process != os.getpid():  # it has no thread here, and the lock may be held for ever
            return
        with self._lock:
            for follower in self._followers:
                follower.subscribed = False
                follower.tell()
            self._followers.clear()
            waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    def _start(self) -> socket.socket:
        waker, woken = socket.socketpair()
        for end in (waker, woken):
            end.setblocking(False)
        threading.Thread(target=self._run, args=(woken,), name="twinvec-notices", daemon=True).start()
        return waker

    def _wake(self) -> None:
        with self._lock, suppress(OSError):  # full: it wakes in any case
            if self._waker is not None:
                self._waker.send(b"!")

    def _run(self, woken: socket.socket) -> None:
        with woken:
            while self._is_wanted(woken):
                try:
                    self._read(woken)
                except Exception as error:  # whatever it is: they ask at intervals then
                    log.info("no notices of jobs for %g s: %s", RETRY_AFTER, error)
                    self._end(woken, refused=True)
                    _pause(woken, RETRY_AFTER)
                else:
                    self._end(woken, refused=False)

    def _is_wanted(self, woken: socket.socket) -> bool:
        """Whether anybody follows a job. If not, this thread ends, and the next follower starts another."""
        with self._lock:
            if not _is_open(woken):
                return False
            if not self._followers and self._waker is not None:
                self._waker.close()
                self._waker = None
            return self._waker is not None

    def _read(self, woken: socket.socket) -> None:
        """Read notices until nobody wants any, or none came for long. Raises redis's RedisError, OSError."""
        client = self._connect()
        pubsub = client.pubsub()
        try:
            asked, confirmed = set[str](), set[str]()
            self._subscribe(pubsub, asked, confirmed)
            if not asked:  # they have gone meanwhile
                return
            place = _socket_of(pubsub)
            with selectors.DefaultSelector() as selector:
                selector.register(place, selectors.EVENT_READ)
                selector.register(woken, selectors.EVENT_READ)
                since = time.monotonic()  # of the last message
                while pubsub.subscribed and _socket_of(pubsub) is place:  # redis-py may have replaced it
                    limit = SILENT if self._followers else KEPT
                    ready = selector.select(max(0.0, since + limit - time.monotonic()))
                    if not ready or not _is_open(woken):
                        return
                    while (message := pubsub.get_message(timeout=0)) is not None:
                        self._pass_on(message, confirmed)
                        since = time.monotonic()
                    self._subscribe(pubsub, asked, confirmed)
        finally:
            with suppress(Exception):  # that it is lost is no news
                pubsub.close()
                client.connection_pool.disconnect()

    def _subscribe(self, pubsub: Any, asked: set[str], confirmed: set[str]) -> None:
        """Bring the subscriptions into line with those who follow; one is kept, as the connection is, when all left."""
        with self._lock:
            wanted = {follower.channel for follower in self._followers}
            for follower in list(self._followers):
                if not follower.subscribed and follower.channel in confirmed:
                    follower.subscribed = True
                    follower.tell()
        if new := wanted - asked:
            pubsub.subscribe(*new)
        if old := asked - wanted if wanted else set(list(asked)[1:]):
            pubsub.unsubscribe(*old)
        asked |= new
        asked -= old
        confirmed -= old

    def _pass_on(self, message: dict[str, Any], confirmed: set[str]) -> None:
        if message["type"] not in ("subscribe", "message"):
            return
        channel = message["channel"].decode()
        confirmed.add(channel)
        with self._lock:
            self._refused = False
            for follower in list(self._followers):
                if follower.channel == channel:
                    follower.subscribed = True
                    follower.tell()

    def _end(self, woken: socket.socket, *, refused: bool) -> None:
        """Tell all that a connection has ended; not those of the thread that has taken this one's place."""
        with self._lock:
            if not _is_open(woken):
                return
            self._refused = refused
            for follower in list(self._followers):
                follower.subscribed = False
                follower.tell()


def _socket_of(pubsub: Any) -> Any:
    """Celery takes it from the same private place: redis-py has no public one."""
    return pubsub.connection._sock


def _is_open(woken: socket.socket) -> bool:
    """Whether the end that wakes is open. What it has sent is read."""
    try:
        while woken.recv(4096):
            pass
    except BlockingIOError:
        return True
    return False


def _pause(woken: socket.socket, seconds: float) -> None:
    """Wait, at most until the end that wakes is closed."""
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(woken, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0 and _is_open(woken):
            selector.select(left)
