"""What `twinvec doctor` looks at: each check says what it found and, where that is not well, what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import redis
from packaging.requirements import Requirement
from packaging.version import Version
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from cli.console import masked
from cli.errors import explain
from db.engine import connect
from db.schema import is_current
from twinvec_client.messages import KEY_PREFIX, LANES
from worker.hearing import HEARD

OK, WARNING, PROBLEM = "ok", "warning", "problem"

BROKERS = {"redis": "7", "valkey": "8"}  # the oldest that will do
POSTGRES, PGVECTOR = 14, "0.8"
LITTLE, TOO_LITTLE = 5e9, 5e8  # bytes free in the home folder
PATIENCE = 120  # seconds for the backend to load
START_BROKER = "start one with `twinvec up`, or set TWINVEC_BROKER_URL"
START_DATABASE = "start one with `twinvec up`, or set TWINVEC_DATABASE_URL"


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    part: str
    level: str  # OK, WARNING or PROBLEM
    found: str
    advice: str = ""


class Backend:
    """The backend and its devices, asked in a process of its own: loading it takes seconds, and it may crash."""

    def __init__(self) -> None:
        self._asked = subprocess.Popen(
            [sys.executable, "-P", "-m", "training.devices"],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def findings(self) -> Iterator[Finding]:
        """Wait for its answer."""
        try:
            answer, errors = self._asked.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._asked.kill()
            self._asked.communicate()
            yield Finding("backend", PROBLEM, f"did not load within {PATIENCE} s", "look at the load of this machine")
            return
        if self._asked.returncode:
            said = (errors.strip().splitlines() or [f"status {self._asked.returncode}"])[-1]
            advice = "set KERAS_BACKEND to tensorflow, jax or torch, and install that"
            yield Finding("backend", PROBLEM, f"does not load: {said}", advice)
            return
        told = json.loads(answer)
        yield Finding("backend", OK, f"{told['backend']} {told['version']}")
        yield device(told)


def device(told: dict[str, Any], *, driver: bool | None = None) -> Finding:
    """What is computed on, as `training.devices` tells it. driver: whether there is one for an NVIDIA GPU."""
    if driver is None:
        driver = Path("/proc/driver/nvidia/version").exists()
    if told["gpus"]:
        names = ", ".join(told["gpus"])
        if told["shares_gpu"]:
            return Finding("device", OK, f"{names}; its memory is taken as it is needed")
        advice = "unset TF_FORCE_GPU_ALLOW_GROWTH and XLA_PYTHON_CLIENT_PREALLOCATE: several workers share the GPU"
        return Finding("device", WARNING, f"{names}; the first process takes all its memory", advice)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if driver:
        advice = "install what it wants for CUDA: for tensorflow, requirements/gpu.txt"
        return Finding("device", WARNING, f"{cores} CPU cores; there is an NVIDIA driver, no GPU is seen", advice)
    return Finding("device", OK, f"{cores} CPU cores, no GPU")


def python() -> Finding:
    return Finding("python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def packages(wanted: Iterable[str] | None = None) -> Iterator[Finding]:
    """Whether what is installed is recent enough. wanted: as pyproject.toml has them; Twinvec's own if None."""
    advice = "install again: `make env`"
    wrong = False
    for line in requires("twinvec") or [] if wanted is None else wanted:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong = True
            yield Finding("packages", PROBLEM, f"{requirement.name} is not installed", advice)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong = True
            yield Finding("packages", PROBLEM, f"{requirement.name} {found}: needed is {requirement}", advice)
    if not wrong:
        shown = ", ".join(f"{name} {version(name)}" for name in ("twinvec", "keras", "pillow", "celery"))
        yield Finding("packages", OK, shown)


def home(folder: Path, *, free: float | None = None) -> Finding:
    """Whether there is room. free: bytes; looked up if None."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding("home", PROBLEM, f"{folder} cannot be written to", "set TWINVEC_HOME to a folder of your own")
    free = shutil.disk_usage(there).free if free is None else free
    found = f"{free / 1e9:,.1f} GB free in {folder}"
    if free > LITTLE:
        return Finding("home", OK, found)
    advice = "make room: a digit and its vector are 1.3 kB, and their indexes more"
    return Finding("home", PROBLEM if free < TOO_LITTLE else WARNING, found, advice)


def broker(url: str) -> Iterator[Finding]:
    """The broker, and the lanes that workers hear."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=10) as server:
            server.ping()
            yield from _broker(server, masked(url))
            yield from _lanes(server)
    except (redis.RedisError, OSError, ValueError) as error:
        said = str(error).rstrip(".")
        yield Finding("broker", PROBLEM, f"none at {masked(url)} ({said})", START_BROKER)


def _broker(server: Any, url: str) -> Iterator[Finding]:
    try:
        info = server.info()
    except redis.ResponseError as error:
        found = f"{url} answers, and does not say how it is set ({error})"
        yield Finding("broker", WARNING, found, "ask as a user that may INFO")
        return
    name = info.get("server_name", "redis")
    number = info.get(f"{name}_version", info["redis_version"])
    oldest = BROKERS.get(name, BROKERS["redis"])
    if Version(number) >= Version(oldest):
        yield Finding("broker", OK, f"{name} {number} at {url}")
    else:
        yield Finding("broker", PROBLEM, f"{name} {number} at {url} is too old", f"install {name} {oldest} or newer")
    policy, limit = info["maxmemory_policy"], info["maxmemory"]
    if policy != "noeviction":
        found = f"maxmemory-policy is {policy}: " + ("it drops messages" if limit else "harmless while it has no limit")
        yield Finding("broker", PROBLEM if limit else WARNING, found, "set maxmemory-policy to noeviction")
    if not info["aof_enabled"]:
        found = "no append-only file: what it holds is lost when it restarts, and has to be sent again"
        yield Finding("broker", WARNING, found, "set appendonly to yes")
    elif info["aof_last_write_status"] != "ok":
        advice = "look at its log and its disk"
        yield Finding("broker", PROBLEM, "it could not write its append-only file, and refuses messages", advice)


def _lanes(server: Any) -> Iterator[Finding]:
    """A worker notes in the broker that it hears its lanes; the note fades within seconds after its end."""
    heard = {lane: server.get(HEARD + lane) is not None for lane in LANES}
    deaf = [lane for lane in LANES if not heard[lane]]
    if not deaf:
        yield Finding("workers", OK, f"heard on every lane: {', '.join(LANES)}")
        return
    waiting = ", ".join(f"{lane} ({server.llen(KEY_PREFIX + lane):,} waiting)" for lane in deaf)
    advice = f"start one with `twinvec worker --lanes {','.join(deaf)}`, or all with `twinvec up`"
    yield Finding("workers", PROBLEM, f"none on {waiting}", advice)


def database(url: str | None) -> Iterator[Finding]:
    """The database, its tables, and the tower that is live."""
    if url is None:
        yield Finding("database", PROBLEM, "none is set and none runs in the home folder", START_DATABASE)
        return
    engine = connect(url)
    try:
        with engine.connect() as connection:
            yield from _server(connection)
            current = is_current(connection)
            if current:
                yield Finding("tables", OK, "up to date")
                yield _tower(connection)
                yield from _batches(connection)
            else:
                yield Finding("tables", PROBLEM, "missing, or of another version", "run `twinvec migrate`")
    except SQLAlchemyError as error:
        yield Finding("database", PROBLEM, explain(error)[0], START_DATABASE)
    finally:
        engine.dispose()


def _server(connection: Connection) -> Iterator[Finding]:
    number = connection.execute(text("SHOW server_version_num")).scalar_one()
    release = connection.execute(text("SHOW server_version")).scalar_one().split()[0]
    query = text("""
        SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'
    """)
    pgvector = connection.execute(query).scalar()
    found = f"PostgreSQL {release}, pgvector {pgvector or 'missing'}"
    if int(number) < POSTGRES * 10_000:
        yield Finding("database", PROBLEM, found, f"PostgreSQL {POSTGRES} or newer is needed")
    elif pgvector is None or Version(pgvector) < Version(PGVECTOR):
        advice = (
            f"install pgvector {PGVECTOR} or newer there, then run ALTER EXTENSION vector UPDATE or `twinvec migrate`"
        )
        yield Finding("database", PROBLEM, found, advice)
    else:
        yield Finding("database", OK, found)


def _tower(connection: Connection) -> Finding:
    live = connection.execute(text("SELECT id, fingerprint, recipe FROM towers WHERE status = 'live'")).one_or_none()
    if live is None:
        return Finding("tower", WARNING, "none is live: pictures are stored and wait", "train one with `twinvec train`")
    return Finding("tower", OK, f"tower {live.id} ({live.fingerprint[:12]}), recipe {live.recipe}")


def _batches(connection: Connection) -> Iterator[Finding]:
    """What workers fail at, again and again, and what they have given up."""
    failing = connection.execute(
        text("""
            SELECT count(*) AS batches, sum(cardinality(digits)) AS digits, max(message) AS message
            FROM batches WHERE state IN ('queued', 'leased') AND message IS NOT NULL
        """)
    ).one()
    if failing.batches:
        found = f"{failing.batches:,} with {failing.digits:,} digits failed when last tried: {failing.message}"
        yield Finding("batches", PROBLEM, found, "mend the cause: they are tried again by themselves")
    dead = connection.execute(text("SELECT count(*) FROM batches WHERE state = 'dead'")).scalar_one()
    if dead:
        advice = "list them with `twinvec dead`, and try them again with `twinvec requeue`"
        yield Finding("batches", WARNING, f"{dead:,} could not be rescued and are tried no more", advice)
