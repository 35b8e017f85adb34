"""Tells those who follow a job that it has got on: a notice on the job's channel of the broker, best effort.

It must not know what has changed: who reads a notice asks the ledger, and asks now and then without one.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from twinvec_client.contract.broker import KEY_PREFIX, Socket, job_channel, keepalive
from worker.app import app
from worker.broker import connect_broker

log = logging.getLogger(__name__)

TIMEOUT = 1.0  # seconds for the broker to take them
PAUSE = 10.0  # seconds without notices after the broker did not take one, so that no batch waits for it again


def notify(jobs: Iterable[uuid.UUID]) -> None:
    """Announce that something has become of these jobs, once each; after the commit. It never raises, and the broker
    is waited for in a thread, where it may be far away."""
    if jobs := set(jobs):
        _thread(os.getpid()).submit(_notifier().notify, jobs)


def notify_later(jobs: Iterable[uuid.UUID]) -> None:
    """As `notify`, when `notify_now` is called: those who wait for an answer do not wait for this as well."""
    _later.update(jobs)


def notify_now() -> None:
    """Announce what was left for later."""
    jobs = set(_later)
    _later.clear()
    if jobs:
        _notifier().notify(jobs)


_later: set[uuid.UUID] = set()


class Notifier:
    """A connection to the broker for notices alone, made with the first one. keys: what our keys begin with there."""

    def __init__(self, broker: redis.Redis, keys: str = KEY_PREFIX) -> None:
        self._broker, self._keys = broker, keys
        self._silent_until = 0.0  # by time.monotonic()

    def notify(self, jobs: set[uuid.UUID]) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            with self._broker.pipeline(transaction=False) as pipe:
                for job in jobs:
                    pipe.publish(job_channel(job, self._keys), b"")
                pipe.execute()
        except (redis.RedisError, OSError) as error:
            self._silent_until = time.monotonic() + PAUSE
            log.warning("could not announce that jobs have got on, and do not try for %g s: %s", PAUSE, error)


@cache
def _thread(process: int) -> ThreadPoolExecutor:
    """That sends them; of this process, not of the one that it was forked from."""
    return ThreadPoolExecutor(1, "notices")


@cache
def _notifier() -> Notifier:
    url = app.conf["broker_url"]
    alive = {"socket_keepalive": True, "socket_keepalive_options": keepalive()} if Socket.read(url) is None else {}
    once = Retry(NoBackoff(), 0)
    broker = connect_broker(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=once, **alive)
    return Notifier(broker, app.conf.broker_transport_options["global_keyprefix"])
