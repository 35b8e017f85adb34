"""What is measured of a running stack, once a minute: its processes, its servers, its tables and its files.

A sample is numbers by name, so that it can be written down and judged later, by `trend`.
"""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import redis
from sqlalchemy import text

from local.child import SERVICES
from local.servers.process import alive, working_in
from tests.chaos.member import is_helper
from tests.soak.load import Load
from tests.soak.stack import Stack

Numbers = dict[str, float]
MB = 1e6

TABLES = ("jobs", "batches", "failures", "digits", "towers", "embeddings")


def sample(stack: Stack, load: Load) -> Numbers:
    """Everything that is measured, now. Names are `what/of which`; sizes are in MB."""
    numbers: Numbers = {}
    for part in (_processes(stack), _servers(stack), _tables(stack), _files(stack), _load(load)):
        numbers.update(part)
    return numbers


def _processes(stack: Stack) -> Iterator[tuple[str, float]]:
    """By role: how many, their memory, files and threads.

    Resident is what they hold beside pages of files, which the kernel takes back when others need them. Of PostgreSQL
    it is all, with shared memory counted once.
    """
    everything = 0.0
    for role, processes in _roles(stack).items():
        there = [each for each in processes if alive(each)]
        yield f"processes/{role}", len(there)
        yield f"resident/{role}", sum(_resident(each, proportional=role == "PostgreSQL") for each in there) / MB
        everything += sum(_resident(each, proportional=True) for each in there) / MB
        yield f"descriptors/{role}", sum(_counted(each, "num_fds") for each in there)
        yield f"threads/{role}", sum(_counted(each, "num_threads") for each in there)
    yield "resident/all", everything


def _roles(stack: Stack) -> dict[str, list[psutil.Process]]:
    roles: dict[str, list[psutil.Process]] = defaultdict(list)
    roles["application"].append(psutil.Process())
    if (supervisor := stack.supervisor()) is not None:
        roles["supervisor"].append(supervisor)
    for name in (*SERVICES, *stack.steady):
        for at, process in enumerate(stack.family(name)):
            part = "" if at == 0 else ": tracker" if is_helper(process) else ": pool"
            roles[name + part].append(process)
    roles["Valkey"] = working_in(stack.home / "valkey", "valkey-server")
    roles["PostgreSQL"] = working_in(stack.home / "postgres", "postgres")
    return roles


def _resident(process: psutil.Process, *, proportional: bool) -> float:
    """Bytes of memory without files. proportional: of everything, each page divided by how many processes share it."""
    with suppress(psutil.Error, OSError):
        if proportional:
            return float(process.memory_full_info().pss)
        found = process.memory_info()
        return float(found.rss - found.shared)
    return 0.0


def _counted(process: psutil.Process, what: str) -> int:
    with suppress(psutil.Error, OSError):
        return int(getattr(process, what)())
    return 0


def _servers(stack: Stack) -> Iterator[tuple[str, float]]:
    with redis.Redis.from_url(stack.broker_url) as broker:
        yield "Redis/used MB", broker.info("memory")["used_memory"] / MB
        yield "Redis/keys", broker.dbsize()
        yield "Redis/connections", broker.info("clients")["connected_clients"]
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    yield "PostgreSQL/connections", stack.ledger.one(query)
    yield "PostgreSQL/database MB", float(stack.ledger.one("SELECT pg_database_size(current_database())")) / MB


def _tables(stack: Stack) -> Iterator[tuple[str, float]]:
    """Size with indexes and TOAST, live and dead rows, partitions included, as PostgreSQL's statistics have them."""
    query = text("""
        SELECT count(*) AS relations, sum(pg_table_size(relid)) AS heap, sum(pg_indexes_size(relid)) AS indexes,
            sum(n_live_tup) AS live, sum(n_dead_tup) AS dead, sum(autovacuum_count) AS vacuums,
            max(extract(epoch FROM now() - last_autovacuum)) AS since
        FROM pg_stat_user_tables WHERE relname = :table OR relname LIKE :partitions
    """)
    with stack.engine.connect() as connection:
        for table in TABLES:
            row = connection.execute(query, {"table": table, "partitions": rf"{table}\_%"}).one()
            yield f"table/{table} MB", float(row.heap) / MB
            yield f"indexes/{table} MB", float(row.indexes) / MB
            yield f"live rows/{table}", float(row.live)
            yield f"dead rows/{table}", float(row.dead)
            yield f"vacuums/{table}", float(row.vacuums)
            yield f"relations/{table}", float(row.relations)
        for table in TABLES[:-1]:
            yield f"counted rows/{table}", float(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def _files(stack: Stack) -> Iterator[tuple[str, float]]:
    """Files and MB in the parts of the home folder."""
    home = stack.home
    parts = {
        "PostgreSQL's log": [home / "postgres" / "pg_wal"],
        "PostgreSQL's data": [path for path in _inside(home / "postgres") if path.name != "pg_wal"],
        "broker's file": [home / "valkey"],
        "logs": [home / "logs"],
        "temporary folders": [stack.temporary, home / "run" / "tmp", home / "chaos" / "tmp"],
    }
    parts["rest of home"] = [
        path for path in _inside(home) if path.name not in ("postgres", "valkey", "logs", "tmp", "run", "chaos")
    ]
    for part, paths in parts.items():
        sizes = [size for path in paths for size in _sizes(path)]
        yield f"files/{part}", len(sizes)
        yield f"bytes/{part} MB", sum(sizes) / MB


def _inside(folder: Path) -> Iterable[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _sizes(path: Path) -> Iterator[int]:
    """Of every file below, and of every folder (which a temporary one may be, empty)."""
    if path.is_file():
        with suppress(OSError):
            yield path.stat().st_size
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            with suppress(OSError):
                yield os.lstat(os.path.join(folder, name)).st_size


def _load(load: Load) -> Iterator[tuple[str, float]]:
    yield "load/digits sent", load.counts["digits sent"]
    yield "load/jobs finished", load.counts["jobs finished"]
    times = sorted(load.look_ups)
    load.look_ups.clear()
    if times:
        yield "look-up/median ms", 1000 * statistics.median(times)
        yield "look-up/95th percentile ms", 1000 * times[int(0.95 * (len(times) - 1))]
    yield "load average", os.getloadavg()[0]
    yield "time", time.time()
