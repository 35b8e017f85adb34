"""What pruning costs, and whether look-ups and commits beside it notice.

python -m benchmarks.pruning                        # 1,000,000 batches; prints the table
python -m benchmarks.pruning --batches 10000000 --write    # and puts it in docs/reliability.md
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from benchmarks.pages import DOCS, circumstances, percentile, publish, table
from db.engine import connect, transact
from db.queue import leases
from db.queue.finish import finish
from db.queue.intake import Pictures, Submission, accept
from db.queue.retention import Pruned
from db.schema import migrate
from db.vectors import search
from db.vectors.lifecycle import NewTower, register
from local.servers import Servers
from tasks.prune import ROWS, SECONDS, Rounds
from worker.runtime import Runtime
from worker.settings import Settings

A_JOB = 10  # batches
IDS = 64  # digits of a batch
STORED = 20_000  # vectors that each look-up compares
A_COMMIT = 16  # digits that each commit replaces, with their vectors

LEDGER = f"""
    WITH made AS (
        INSERT INTO jobs (id, kind, collection, parameters, total, chunks, created_at)
        SELECT gen_random_uuid(), 'embed', 'old', '{{}}', {A_JOB * IDS}, {A_JOB}, now() - interval '60 days' + n * :step
        FROM generate_series(1, :jobs) AS n
        RETURNING id, created_at
    )
    INSERT INTO batches (job, seq, state, digits, digest, items, embedded, attempt, worker, created_at, finished_at)
    SELECT id, seq, 'done', array_fill(7::bigint, ARRAY[{IDS}]), sha256('x'), {IDS}, {IDS}, 1, 'embedder:1', created_at,
           created_at + interval '1 minute'
    FROM made, generate_series(0, {A_JOB} - 1) AS seq
"""
FAILURES = """
    INSERT INTO failures (job, key, reason, message, picture, is_glyph, created_at)
    SELECT id, 'bad', 'damaged', 'it ends in the middle', decode(repeat('5a', 2000), 'hex'), false, created_at
    FROM jobs TABLESAMPLE BERNOULLI (10)
"""


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder, Servers(Path(folder) / "home", 0) as servers:
        settings = Settings(database_url=servers.database_url, broker_url=servers.broker_url)
        runtime = Runtime(settings)
        migrate(runtime.engine)
        tower = transact(runtime.engine, register, new_tower()).id
        work: dict[str, Callable[[], None]] = {
            "look-up": Lookups(runtime.engine, tower),
            "commit": Commits(runtime.engine, tower),
        }
        with taken() as making:
            fill(runtime.settings.require_database(), wanted.batches)
        print(f"made {wanted.batches:,} batches in {making():.0f} s", flush=True)
        before = sizes(runtime.engine)
        idle, _ = beside(work, lambda: time.sleep(wanted.idle))
        print("idle: done", flush=True)
        paced, some = beside(work, lambda: paced_rounds(runtime, settings.prune, wanted.idle))
        print("as scheduled: done", flush=True)
        with taken() as pruning:
            full, rest = beside(work, lambda: all_rounds(runtime))
        seconds = pruning()
        print("without a pause: done", flush=True)
        again, _ = beside(work, lambda: time.sleep(wanted.idle))
        after = sizes(runtime.engine)
        with runtime.engine.connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM jobs WHERE collection = 'old'")).scalar_one()
        runtime.engine.dispose()
    assert left == 0, "all of it should be gone"
    rows = [
        [name, what, f"{len(found[what])}", *milliseconds(found[what])]
        for what in work
        for name, found in (
            ("none, before", idle),
            ("as scheduled", paced),
            ("without a pause", full),
            ("none, after", again),
        )
    ]
    longest, middle = 1000 * max(rest["transactions"]), 1000 * statistics.median(rest["transactions"])
    said = (
        f"{wanted.batches:,} batches of {IDS} digits, in jobs of {A_JOB} with a failure of 2 kB in every tenth: "
        f"{rest['rows']:,} rows went in {seconds:,.0f} s without a pause, {rest['rows'] / seconds:,.0f} a second, with "
        f"look-ups and commits beside it; a transaction of {ROWS} batches took {middle:.0f} ms at the median, "
        f"{longest:.0f} ms at the longest. As scheduled, a round of {SECONDS:g} s every {settings.prune:g} s, "
        f"{some['rows']:,} rows went in {wanted.idle} s. A look-up compares {STORED:,} vectors, a commit replaces "
        f"{A_COMMIT} digits and their vectors. On disk the tables of jobs, batches and failures were "
        f"{before / 1e6:,.0f} MB before and {after / 1e6:,.0f} MB after: the room is used again, not given back."
    )
    heads = ["pruning", "beside it", "count", "median ms", "95th percentile", "longest"]
    parts = [f"`python -m benchmarks.pruning --batches {wanted.batches}`. {said}", table(heads, rows, words=2)]
    publish("pruning", "\n\n".join([*parts, circumstances(load)]), write=wanted.write, to=DOCS / "reliability.md")


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1_000_000, help="batches of ended jobs to prune")
    parser.add_argument(
        "--idle", type=int, default=20, help="seconds measured without pruning, twice, and as scheduled"
    )
    parser.add_argument("--write", action="store_true", help="put the table in docs/reliability.md")
    return parser.parse_args()


def fill(url: str, batches: int) -> None:
    """Ended jobs of 60 to 50 days ago, and fresh statistics."""
    jobs, engine = batches // A_JOB, connect(url, statement_limit=3600)
    with engine.begin() as connection:
        connection.execute(text(LEDGER.replace(":step", f"interval '{10 * 86_400e3 / jobs} ms'")), {"jobs": jobs})
        connection.execute(text(FAILURES))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def sizes(engine: Engine) -> int:
    """Bytes on disk."""
    names = "'jobs', 'batches', 'failures'"
    with engine.connect() as connection:
        query = f"SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(ARRAY[{names}]) AS name"
        return int(connection.execute(text(query)).scalar_one())


def all_rounds(runtime: Runtime) -> dict[str, Any]:
    """Rounds one after another until nothing is left: rows, and the seconds of each transaction."""
    seconds: list[float] = []
    transact_plainly = runtime.transact

    def timed(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = transact_plainly(work, *args, **kwargs)
        if work.__name__ == "prune_jobs":
            seconds.append(time.perf_counter() - start)
        return found

    runtime.transact = timed  # type: ignore[method-assign]  # to time it
    rounds, total = Rounds(), Pruned()
    while True:
        total += rounds.run(runtime)
        if rounds.at_end:
            break
    rows = total.jobs + total.batches + total.failures
    return {"rows": rows, "transactions": seconds}


def paced_rounds(runtime: Runtime, pause: float, seconds: float) -> dict[str, Any]:
    """Rounds as beat sends them, for so many seconds."""
    rounds, rows, end = Rounds(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        gone = rounds.run(runtime)
        rows += gone.jobs + gone.batches + gone.failures
        time.sleep(max(0, min(pause, end - time.monotonic())))
    return {"rows": rows}


def beside(
    work: dict[str, Callable[[], None]], main_work: Callable[[], dict[str, Any] | None]
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds that each piece of work took, one after another in a thread of its own, while `main_work` ran."""
    ending, seconds = threading.Event(), {name: list[float]() for name in work}

    def repeat(name: str) -> None:
        while not ending.is_set():
            start = time.perf_counter()
            work[name]()
            seconds[name].append(time.perf_counter() - start)
            ending.wait(0.05)

    threads = [threading.Thread(target=repeat, args=(name,)) for name in work]
    for thread in threads:
        thread.start()
    try:
        found = main_work()
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    return seconds, found or {}


class Lookups:
    """The nearest five of the stored vectors."""

    def __init__(self, engine: Engine, tower: int) -> None:
        self._engine, self._tower = connect(engine.url.render_as_string(hide_password=False)), tower
        commits = Commits(engine, tower, seed=3)
        for _ in range(STORED // 1000):
            commits(1000)
        self._random = np.random.default_rng(1)

    def __call__(self) -> None:
        vector = self._random.random(128, np.float32)
        assert len(transact(self._engine, self._look_up, vector).neighbours) == 5

    def _look_up(self, session: Session, vector: np.ndarray) -> search.Found:
        search.begin(session)
        (found,) = search.nearest(session, self._tower, None, [search.Query(vector)], search.Wanted(5))
        return found


class Commits:
    """Digits accepted, claimed and stored with their vectors: three transactions, as a worker's.

    Their keys are the same again and again, so that a look-up compares as much at the end as in the beginning.
    """

    def __init__(self, engine: Engine, tower: int, seed: int = 2) -> None:
        self._engine, self._tower = connect(engine.url.render_as_string(hide_password=False)), tower
        self._random = np.random.default_rng(seed)
        self._keys: Iterator[int] = itertools.count()

    def __call__(self, count: int = A_COMMIT) -> None:
        pixels = self._random.integers(0, 256, (count, 784), np.uint8)
        job = uuid.uuid4()
        keys, none = [f"{next(self._keys) % STORED:05}" for _ in pixels], [None] * count
        items = Pictures(keys=keys, pixels=pixels, labels=none, attributes=none, made=np.zeros(count, np.bool_))
        chunk = Submission(job=job, seq=0, collection="new", items=items, digest=b"digest", total=count)
        batch = transact(self._engine, accept, chunk).batch
        assert batch is not None
        lease = transact(self._engine, leases.claim, batch, worker="bench", lease=60.0, max_attempts=3)
        assert lease is not None
        vectors = self._random.random((count, 128), np.float32)
        transact(self._engine, finish, [lease], np.array(lease.digits), {self._tower: vectors}, {})


def new_tower() -> NewTower:
    """One that is never loaded."""
    return NewTower(
        fingerprint="0" * 64,
        file=b"",
        recipe="notebook",
        settings={},
        seed=0,
        data_digest="",
        versions={},
        metrics={},
        history={},
        threshold=0.5,
    )


def milliseconds(seconds: list[float]) -> list[str]:
    return [f"{1000 * value:.1f}" for value in (statistics.median(seconds), percentile(seconds, 0.95), max(seconds))]


@contextmanager
def taken() -> Iterator[Callable[[], float]]:
    """How many seconds the block took."""
    start = time.monotonic()
    end: list[float] = []
    yield lambda: end[0] - start
    end.append(time.monotonic())


if __name__ == "__main__":
    main()
