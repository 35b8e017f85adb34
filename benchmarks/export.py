"""How fast stored vectors are written to a file, and in how much memory: `twinvec export` on a store of its own.

python -m benchmarks.export                       # 250,000 and 1,000,000 vectors; prints the table
python -m benchmarks.export --vectors 1000000 --write    # and puts it in docs/performance.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from benchmarks.pages import circumstances, publish, table
from benchmarks.processes import ROOT, quiet
from benchmarks.pruning import new_tower
from db.bulk import copy_embeddings
from db.engine import connect, transact, without_limit
from db.schema import migrate
from db.vectors.lifecycle import register
from local.servers import Servers
from worker.settings import Settings

MB = 2**20
BATCH = 4096  # vectors that are written at a time, as embedders do
DIGITS = """
    INSERT INTO digits (key, collection, pixels, sha256, label, job)
    SELECT 'scans/page-' || n, 'collection ' || n % 10, decode(repeat(lpad(to_hex(n % 256), 2, '0'), 784), 'hex'),
           sha256(n::text::bytea), n % 10, '00000000-0000-0000-0000-000000000000'
    FROM generate_series(:start + 1, :stop) AS n RETURNING id
"""


class Run(NamedTuple):
    """seconds: of the whole command. processor: its seconds of it. peak: bytes resident, at most. size: of what was
    written."""

    seconds: float
    processor: float
    peak: int
    size: int


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder, Servers(Path(folder) / "home", 0) as servers:
        settings = Settings(database_url=servers.database_url, broker_url=servers.broker_url)
        engine = connect(settings.require_database())
        migrate(engine)
        tower, stored = transact(engine, register, new_tower()).id, 0
        for count in wanted.vectors:
            fill(engine, tower, stored, count)
            stored = count
            for suffix in wanted.formats:
                run = export(Path(folder) / f"vectors.{suffix}", servers.database_url)
                rows.append(
                    [
                        f"`.{suffix}`",
                        f"{count:,}",
                        f"{run.seconds:.1f}",
                        f"{run.processor:.1f}",
                        f"{count / run.seconds:,.0f}",
                        f"{run.peak / MB:,.0f}",
                        f"{run.size / MB:,.0f}",
                    ]
                )
                print(*rows[-1], flush=True)
        engine.dispose()
    heads = ["file", "vectors", "seconds", "of the processor", "vectors a second", "most resident MB", "MB written"]
    publish("export", f"{table(heads, rows)}\n\n{circumstances(load)}", write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", default="250000,1000000", help="numbers of stored vectors")
    parser.add_argument("--formats", default="parquet,npz,npy")
    parser.add_argument("--write", action="store_true", help="put the table in docs/performance.md")
    wanted = parser.parse_args()
    wanted.vectors = sorted(int(count) for count in wanted.vectors.split(","))
    wanted.formats = wanted.formats.split(",")
    return wanted


def fill(engine: Engine, tower: int, start: int, stop: int) -> None:
    """Store digits `start` to `stop` and random vectors of them. Afterwards the tables are vacuumed and analysed."""
    rng = np.random.default_rng(start)
    for first in range(start, stop, BATCH):
        last = min(first + BATCH, stop)
        with Session(engine) as session, session.begin():
            without_limit(session.connection())
            ids = session.execute(text(DIGITS), {"start": first, "stop": last}).scalars().all()
            vectors = rng.standard_normal((len(ids), 128), np.float32)
            copy_embeddings(session, tower, np.array(ids, np.int64), vectors)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE digits, embeddings"))


def export(file: Path, database_url: str) -> Run:
    """One command in a process of its own, looked at twenty times a second. Ends this process where it fails."""
    command = [sys.executable, "-m", "cli", "export", str(file)]
    start, before, peak = time.perf_counter(), os.times(), 0
    with subprocess.Popen(
        command, env=quiet() | {"TWINVEC_DATABASE_URL": database_url}, cwd=ROOT, stdout=subprocess.DEVNULL
    ) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, seen.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
    seconds, after = time.perf_counter() - start, os.times()
    if process.wait():
        sys.exit(f"the export failed with status {process.returncode}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    written = list(file.parent.glob(f"{file.stem}*"))
    size = sum(each.stat().st_size for each in written)
    for each in written:
        each.unlink()
    return Run(seconds, processor, peak, size)


if __name__ == "__main__":
    main()
