"""That memory stays flat: the embedder's over many batches, the client's over a long stream, the broker's in bulk.

python -m benchmarks.memory                  # prints the tables
python -m benchmarks.memory --write          # and puts them in docs/performance.md
python -m benchmarks.memory --batches 50 --stream 20000 --bulk 10000,20000
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import Any

import psutil
import redis

from benchmarks.pages import circumstances, publish, table
from benchmarks.place import Place
from benchmarks.processes import alone
from benchmarks.servers import everything
from worker.forkserver import FORK_SERVER, POOL

MB = 2**20
TITLES = {POOL: "pool", FORK_SERVER: "fork server"}
MARKS = (0.1, 0.25, 0.5, 1)  # of the way, where sizes are shown


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    with everything() as place:
        sizes = resting(place)
        batches = alone("batches", place=asdict(place), batches=wanted.batches, embedder=embedder(place).pid)
    print("embedder: done", flush=True)
    peaks, streams = {}, {}
    for count in sorted({*wanted.bulk, wanted.stream}):
        with everything() as place:
            streams[count] = alone("streaming", place=asdict(place), count=count)
            peaks[count] = broker(place)
        print(f"{count:,} digits: done", flush=True)
    parts = [
        at_rest(sizes),
        growth("embedder: batches", batches),
        growth("client: digits sent", streams[wanted.stream]),
    ]
    publish("memory", "\n\n".join([*parts, brokers(peaks), circumstances(load)]), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1000, help="that the embedder works on")
    parser.add_argument("--stream", type=int, default=1_000_000, help="digits that one client sends")
    parser.add_argument("--bulk", default="70000,500000", help="digits of the jobs under which the broker is looked at")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/performance.md")
    wanted = parser.parse_args()
    wanted.bulk = [int(count) for count in wanted.bulk.split(",")]
    return wanted


def resting(place: Place) -> dict[str, tuple[float, float]]:
    """Of each process of a stack that has a tower and no work yet: MB resident, and its share of what several hold."""
    found = {}
    for name, pid in place.workers.items():
        main = psutil.Process(pid)
        below = [each for each in main.children() if each.name() in TITLES]
        for title, process in ((name, main), *((f"{name}, {TITLES[each.name()]}", each) for each in below)):
            size = process.memory_full_info()
            found[title] = size.rss / MB, getattr(size, "pss", size.uss) / MB
    return found


def at_rest(sizes: dict[str, tuple[float, float]]) -> str:
    """Their table, and their sums."""
    rows = [[name, f"{resident:,.0f}", f"{share:,.0f}"] for name, (resident, share) in sizes.items()]
    rows.append(["**all**", *(f"{sum(each):,.0f}" for each in zip(*sizes.values(), strict=True))])
    return table(["process, at rest", "resident MB", "of it its own share"], rows)


def embedder(place: Place) -> psutil.Process:
    """The pool process that holds the tower: of the worker's processes the largest."""
    return max(
        psutil.Process(place.workers["embedder"]).children(recursive=True), key=lambda each: each.memory_info().rss
    )


def broker(place: Place) -> dict[str, int]:
    """What the broker has held at most since it was started, in bytes."""
    with redis.Redis.from_url(place.broker_url) as client:
        found = client.info("memory")
    return {"peak": found["used_memory_peak"], "empty": found["used_memory_startup"]}


def growth(title: str, run: dict[str, Any]) -> str:
    """Sizes on the way: `run` has `sizes`, pairs of how far it was and the bytes resident then."""
    sizes = run["sizes"]
    end = sizes[-1][0]
    shown = [min(sizes, key=lambda pair: abs(pair[0] - mark * end)) for mark in MARKS]
    rows = [
        [
            "resident MB",
            *[f"{size / MB:,.1f}" for _, size in (sizes[0], *shown)],
            f"{max(s for _, s in sizes) / MB:,.1f}",
        ]
    ]
    return table([title, *[f"{done:,}" for done, _ in (sizes[0], *shown)], "most"], rows)


def brokers(peaks: dict[int, dict[str, int]]) -> str:
    """The broker's peak by the size of the job."""
    rows = [
        [f"{count:,}", *[f"{found[name] / MB:.1f}" for name in ("empty", "peak")]] for count, found in peaks.items()
    ]
    return table(["broker: digits of the job", "empty MB", "most MB"], rows)


if __name__ == "__main__":
    main()
