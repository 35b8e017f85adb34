"""Says in the broker which workers run and what they are at: a note of each, which lapses by the broker's clock.

It must not know the ledger, which says what batch a process works on.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import psutil
import redis
from celery.worker import state

from twinvec_client.contract.broker import KEY_PREFIX

LAPSES = 10  # seconds after its last note
ROSTER = "workers"  # a sorted set, after the prefix: names, by when each was noted last
NOTE = "worker:"  # + a name, after the prefix; no user may list keys


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself. pool: process ids; running: seconds; doing: names of tasks; memory: bytes, of all
    its processes."""

    name: str
    host: str
    process: int
    lanes: list[str]
    pool: list[int]
    running: float
    doing: list[str]
    memory: int


@dataclass(frozen=True)
class Seen:
    """A note, and seconds since it was made, by the broker's clock."""

    note: Note
    ago: float


def describe(name: str, lanes: Sequence[str], pool: Callable[[], Sequence[int]]) -> Note:
    """This process, as it is now, and the processes of its pool."""
    process, processes = psutil.Process(), list(pool())
    return Note(
        name=name,
        host=socket.gethostname(),
        process=process.pid,
        lanes=list(lanes),
        pool=processes,
        running=time.time() - process.create_time(),
        doing=_doing(),
        memory=sum(map(_resident, [process.pid, *processes])),
    )


def write(broker: Any, note: Note, keys: str = KEY_PREFIX) -> None:
    """Note a worker, in place of what was noted of it before. Raises RedisError."""
    member = _member(note.host, note.process)
    with broker.pipeline(transaction=False) as pipe:
        pipe.set(f"{keys}{NOTE}{member}", msgspec.json.encode(note), ex=LAPSES)
        pipe.zadd(keys + ROSTER, {member: _now(broker)})
        pipe.execute()


def leave(broker: Any, keys: str = KEY_PREFIX) -> None:
    """Take back the note of this process, which ends. Raises RedisError."""
    _forget(broker, [_member(socket.gethostname(), os.getpid())], keys)


def read(broker: Any, keys: str = KEY_PREFIX) -> list[Seen]:
    """The workers that noted themselves within the last seconds, by their names. Raises RedisError."""
    rows = cast("list[tuple[bytes, float]]", broker.zrange(keys + ROSTER, 0, -1, withscores=True))
    if not rows:
        return []
    noted = {member.decode(errors="replace"): at for member, at in rows}
    texts = broker.mget([f"{keys}{NOTE}{member}" for member in noted])
    now = _now(broker)
    seen: list[Seen] = []
    for at, text in zip(noted.values(), texts, strict=True):
        with suppress(msgspec.MsgspecError, TypeError):  # it lapsed, or is not a note of ours
            seen.append(Seen(msgspec.json.decode(text, type=Note), max(now - at, 0.0)))
    if gone := [member for member, text in zip(noted, texts, strict=True) if text is None]:
        _forget(broker, gone, keys)
    return sorted(seen, key=lambda each: (each.note.name, each.note.host, each.note.process))


def _member(host: str, process: int) -> str:
    return f"{host}:{process}"


def _forget(broker: Any, members: list[str], keys: str) -> None:
    with broker.pipeline(transaction=False) as pipe:
        pipe.zrem(keys + ROSTER, *members)
        for member in members:
            pipe.delete(f"{keys}{NOTE}{member}")
        pipe.execute()


def _now(broker: redis.Redis) -> float:
    seconds, micros = broker.time()
    return seconds + micros / 1e6


def _doing() -> list[str]:
    """The tasks that the pool works on now."""
    try:
        return sorted(str(request.name) for request in list(state.active_requests))
    except RuntimeError:  # one was taken on meanwhile
        return []


def _resident(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
