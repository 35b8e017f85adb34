"""Says in the broker that a scheduler runs, and which ones do. Two on one installation do no harm: one is enough.

It must not know the schedule. The notes lapse by the broker's clock, so that nobody's clock is compared.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import redis

from twinvec_client.contract.broker import KEY_PREFIX, key_prefix
from worker import installation
from worker.broker import connect_broker
from worker.settings import Settings

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two notes of one scheduler
LAPSES = 15  # seconds after its last note
_NAME = re.compile(r"process ([0-9]{1,9}) on (\S+)")
PLACES = [f"beat:{place}" for place in range(8)]  # keys after the prefix, one a scheduler: no user may list keys


@contextmanager
def announcing(settings: Settings) -> Iterator[None]:
    """Note from a thread, while the block runs, that this process is a scheduler; warn of others."""
    broker = connect_broker(settings.guarded_broker(), socket_connect_timeout=3, socket_timeout=5)
    keys = key_prefix(settings.lane_prefix())
    own, ended = name(), threading.Event()

    def announce() -> None:
        known: set[str] = set()
        while True:
            with suppress(redis.RedisError, OSError):  # Celery says that the broker is away
                if not installation.is_other(broker, settings):
                    take_place(broker, own, keys)
                others = set(running(broker, keys)) - {own}
                if others - known:
                    log.warning("another scheduler runs: %s; one is enough, stop the others", ", ".join(sorted(others)))
                known = others
            if ended.wait(EVERY):
                return

    thread = threading.Thread(target=announce, name="beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(EVERY)
        with suppress(redis.RedisError, OSError):
            leave(broker, own, keys)


def name() -> str:
    """This process's: `process <pid> on <host>`."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def take_place(broker: Any, own: str, keys: str = KEY_PREFIX) -> None:
    """Note a scheduler in its place, or in the first that is free."""
    for place in (keys + each for each in PLACES):
        if broker.set(place, own, nx=True, ex=LAPSES):
            return
        if _note(broker, place) == own.encode():
            broker.set(place, own, ex=LAPSES)
            return


def running(broker: Any, keys: str = KEY_PREFIX) -> list[str]:
    """The schedulers that noted themselves within the last seconds, by their names. Raises RedisError."""
    noted = [_note(broker, keys + place) for place in PLACES]
    names = {name.decode(errors="replace") for name in noted if name is not None}
    return sorted(name for name in names if not _has_died(name))


def leave(broker: Any, own: str, keys: str = KEY_PREFIX) -> None:
    """Take back the note of a scheduler that ends."""
    for place in (keys + each for each in PLACES):
        if _note(broker, place) == own.encode():
            broker.delete(place)


def _note(broker: Any, place: str) -> bytes | None:
    """What stands in a place; nothing where it is of another type than a note."""
    try:
        note: bytes | None = broker.get(place)
    except redis.ResponseError:
        return None
    return note


def _has_died(name: str) -> bool:
    """Whether it ran on this machine and is gone: it was killed, and its note has not lapsed yet."""
    noted = _NAME.fullmatch(name)
    if noted is None:
        return True  # not a note of ours
    return noted[2] == socket.gethostname() and not psutil.pid_exists(int(noted[1]))
