"""What bulk figures do not show: one picture, many small jobs, and pictures and look-ups beside a bulk job.

python -m benchmarks.latency                 # prints the tables
python -m benchmarks.latency --write         # and puts them in docs/performance.md
python -m benchmarks.latency --singles 20 --jobs 100 --stored 5000 --bulk 50000
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import asdict
from typing import Any

from benchmarks.pages import circumstances, percentile, publish, table
from benchmarks.processes import alone
from benchmarks.servers import everything, ledger


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    with everything() as place:
        single = alone("singles", place=asdict(place), count=wanted.singles)
    print("one picture: done", flush=True)
    small = {}
    for name, servers in (("Twinvec", everything), ("batched Celery, a task a job", ledger)):
        with servers() as place:
            small[name] = alone("small_jobs", place=asdict(place), jobs=wanted.jobs, peer=servers is ledger)
        print(f"small jobs, {name}: done", flush=True)
    with everything() as place:
        beside = alone("beside", place=asdict(place), count=wanted.singles, bulk=wanted.bulk)
    print("one picture beside a bulk job: done", flush=True)
    with everything("default") as place:  # an untrained tower's space is not flat, and search could leave nothing out
        asked = alone("lookups", place=asdict(place), stored=wanted.stored, bulk=wanted.bulk)
    parts = [singles(single), small_jobs(small), one_beside(beside, wanted.bulk), lookups(asked), circumstances(load)]
    publish("latency", "\n\n".join(parts), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--singles", type=int, default=100, help="pictures sent one by one")
    parser.add_argument("--jobs", type=int, default=500, help="small jobs")
    parser.add_argument("--stored", type=int, default=70_000, help="digits that are there to be found")
    parser.add_argument("--bulk", type=int, default=500_000, help="digits of the job beside the look-ups")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/performance.md")
    return parser.parse_args()


def singles(run: dict[str, list[float]]) -> str:
    """One picture, from the call of `embed`."""
    titles = {
        "committed": "until its vector is committed",
        "accepted": "until `embed` returns: the picture stands in SQL",
        "told": "until `job.wait` returns as well",
        "empty": "an empty Celery task, on default settings, until its result is there",
    }
    floor = statistics.median(run["empty"])
    rows = [
        [title, *_milliseconds(run[name]), f"{statistics.median(run[name]) / floor:.2f}"]
        for name, title in titles.items()
    ]
    heads = ["one picture, an idle system", "median ms", "95th percentile", "longest", "of an empty task"]
    return table(heads, rows)


def small_jobs(runs: dict[str, dict[str, Any]]) -> str:
    """Many jobs of 1 to 10 pictures at once."""
    rows, empty = [], next(run["empty"] for run in runs.values() if run["empty"] is not None)
    for name, run in runs.items():
        rates = [f"{run[what] / run['seconds']:,.0f}" for what in ("jobs", "pictures")]
        rows.append([f"{run['jobs']} jobs, {name}", f"{run['seconds']:.2f}", *rates, f"{run['seconds'] / empty:.2f}"])
    count = next(run["jobs"] for run in runs.values())
    rows.append([f"{count} empty Celery tasks", f"{empty:.2f}", f"{count / empty:,.0f}", "", "1.00"])
    return table(["jobs of 1 to 10 pictures, 4 threads", "seconds", "jobs/s", "pictures/s", "of empty tasks"], rows)


def one_beside(run: dict[str, Any], bulk: int) -> str:
    """One picture after the other beside a bulk job, and what the job loses by them."""
    idle = statistics.median(run["before"])
    rows = [
        [title, f"{len(run[when])}", *_milliseconds(run[when]), f"{statistics.median(run[when]) / idle:.2f}"]
        for when, title in (("before", "idle, before"), ("during", "while the job runs"))
    ]
    before, after = run["undisturbed"]
    share = run["rate"] / statistics.mean(run["undisturbed"])
    rates = f"{run['rate']:,.0f} images/s; {before:,.0f} and {after:,.0f} without them, before and after: {share:.2f}"
    head = f"one picture beside a job of {bulk:,} ({rates}), until `wait` returns"
    return table([head, "pictures", "median ms", "95th percentile", "longest", "of idle"], rows)


def lookups(run: dict[str, Any]) -> str:
    """`nearest`, before, during and after a bulk job."""
    before = statistics.median(run["before"]["seconds"])
    rows = []
    for when, title in (("before", "idle, before"), ("during", "while the job runs"), ("after", "idle, after")):
        seconds = run[when]["seconds"]
        ratio = f"{statistics.median(seconds) / before:.2f}"
        rows.append([title, f"{run[when]['vectors']:,}", f"{len(seconds)}", *_milliseconds(seconds), ratio])
    heads = [
        f"`nearest` beside a job of {run['bulk']:,} ({run['rate']:,.0f} images/s)",
        "vectors at its end",
        "look-ups",
    ]
    return table([*heads, "median ms", "95th percentile", "longest", "of idle, before"], rows)


def _milliseconds(seconds: list[float]) -> list[str]:
    return [f"{1000 * value:.1f}" for value in (statistics.median(seconds), percentile(seconds, 0.95), max(seconds))]


if __name__ == "__main__":
    main()
