"""What broker, home folder and backend must be before a process starts on them. It prints nothing.

`twinvec doctor` and the commands that start something judge by these same functions; `db.preflight` has the database's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from packaging.version import Version

from db.faults import Fault, Severity, clock_faults, refusals
from training.model.devices import GPUS
from worker.broker import connect_broker

BROKERS = {"redis": "7", "valkey": "8"}  # the oldest that will do
LITTLE, TOO_LITTLE, FULL = 5e9, 5e8, 1e8  # bytes free in the home folder; less than the last is no room for a database


class StartRefused(Exception):
    """Something is not as it must be for work. The message is one sentence that says what, and what to do."""


def insist(faults: Iterable[Fault]) -> list[Fault]:
    """The faults with which one may start. Raises StartRefused for the first with which one may not."""
    found = list(faults)
    for fault in refusals(found):
        raise StartRefused(str(fault))
    return found


@dataclass(frozen=True)
class Broker:
    """What a broker says of itself."""

    name: str  # redis or valkey
    version: str
    policy: str  # what it drops when it is full
    memory_limit: int  # bytes; 0: none
    appends: bool  # whether it keeps an append-only file
    written: bool  # whether its last write to that file succeeded
    master: str | None  # of which it is a replica
    ahead: float | None  # seconds its clock is ahead of this machine's; None where we may not ask


def broker_faults(url: str) -> list[Fault]:
    """What is wrong with the broker; nothing is found where its user may not ask. Raises RedisError, OSError."""
    with connect_broker(url, socket_connect_timeout=3, socket_timeout=10) as server:
        server.ping()
        try:
            return list(faults_of(look(server)))
        except redis.ResponseError:  # the user may not INFO
            return []


def look(server: Any) -> Broker:
    """Ask the broker. Raises redis's ResponseError where the user may not INFO."""
    info = server.info()
    name = info.get("server_name", "redis")
    replica = info["role"] != "master"
    return Broker(
        name=name,
        version=info.get(f"{name}_version", info["redis_version"]),
        policy=info["maxmemory_policy"],
        memory_limit=info["maxmemory"],
        appends=bool(info["aof_enabled"]),
        written=info.get("aof_last_write_status", "ok") == "ok",
        master=f"{info['master_host']}:{info['master_port']}" if replica else None,
        ahead=_ahead(server),
    )


def faults_of(broker: Broker) -> Iterator[Fault]:
    """What is wrong with a broker."""
    oldest = BROKERS.get(broker.name, BROKERS["redis"])
    if Version(broker.version) < Version(oldest):
        yield Fault(f"the broker, {broker.name} {broker.version}, is too old", f"use {broker.name} {oldest} or newer")
    if broker.master is not None:
        advice = "set TWINVEC_BROKER_URL to the primary"
        yield Fault(f"the broker is a replica of {broker.master}, which takes no messages", advice)
    if broker.policy != "noeviction":
        limited = "it drops messages when it is full" if broker.memory_limit else "harmless while it has no limit"
        found = f"its maxmemory-policy is {broker.policy}: {limited}"
        severity = Severity.REFUSAL if broker.memory_limit else Severity.WARNING
        yield Fault(found, "set maxmemory-policy to noeviction", severity)
    if not broker.appends:
        found = "the broker keeps no append-only file, and forgets what it holds when it restarts"
        yield Fault(found, "set appendonly to yes; until then, what is lost is sent again", Severity.WARNING)
    elif not broker.written:
        found = "the broker could not write its append-only file, and refuses messages"
        yield Fault(found, "look at its log and its disk", Severity.PROBLEM)
    if broker.ahead is not None:
        yield from clock_faults("the broker's", broker.ahead)


def home_faults(folder: Path, *, free: float | None = None) -> Iterator[Fault]:
    """Whether a stack can keep its servers' data there. free: bytes; looked up if None."""
    there = existing(folder)
    own = "set TWINVEC_HOME to a folder of your own"
    theirs = _owner(there) if there == folder.absolute() else None
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        if theirs is None:
            yield Fault(f"cannot write to {folder}", own)
        else:
            yield Fault(f"cannot write to {folder}, which belongs to the user {theirs}", f"run as {theirs}, or {own}")
        return
    if theirs is not None:
        found = f"{folder} belongs to the user {theirs}, who cannot use what another user writes there"
        yield Fault(found, f"run as {theirs}, or {own}", Severity.WARNING)
    free = shutil.disk_usage(there).free if free is None else free
    if free <= LITTLE:
        severity = Severity.WARNING if free >= TOO_LITTLE else Severity.PROBLEM
        advice = "make room: a digit and its vector are 1.3 kB, and their indexes more"
        found = f"only {free / 1e6:,.0f} MB are free in {folder}"
        yield Fault(found, advice, Severity.REFUSAL if free < FULL else severity)


def backend_faults(environment: Mapping[str, str] = os.environ) -> Iterator[Fault]:
    """Whether KERAS_BACKEND names a backend, and one that is installed. It loads none."""
    name = environment.get("KERAS_BACKEND")
    *others, last = GPUS
    if not name:
        return
    if name not in GPUS:
        yield Fault(f"KERAS_BACKEND={name} is not a backend", f"set it to {', '.join(others)} or {last}")
    elif find_spec(name) is None:
        yield Fault(f"KERAS_BACKEND={name}, and {name} is not installed", "install it, or unset KERAS_BACKEND")


def existing(folder: Path) -> Path:
    """The folder, or the first of those above it that exists: there it would be made."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))


def _ahead(server: Any) -> float | None:
    asked = time.time()
    try:
        seconds, microseconds = server.time()
    except redis.ResponseError:  # the user may not
        return None
    return float(seconds + microseconds / 1e6 - (asked + time.time()) / 2)


def _owner(folder: Path) -> str | None:
    """The name of the user whom a folder belongs to; None where it is ours."""
    uid = folder.stat().st_uid
    if uid == os.geteuid():
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
