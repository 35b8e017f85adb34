"""From the queue to committed rows: Twinvec beside what one would write without it, into the same tables.

    python -m benchmarks.bulk                  # prints the tables
    python -m benchmarks.bulk --write          # and puts them in docs/performance.md
    python -m benchmarks.bulk --sizes 10000 --rounds 1 --only twinvec,plain

Every run has an embedded broker and database of its own, an empty ledger and one tower, stores some digits before its
clock runs, and is checked afterwards: rows are counted, and 200 vectors compared with those that the tower makes. The
contestants take turns, round after round; ONCE digits are stored in the first one only. Ray Data's batches and actors
are the best of RAYS, found first.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.pages import circumstances, publish, spread, table
from benchmarks.place import Place
from benchmarks.processes import alone
from benchmarks.servers import everything, ledger, unsearched

REFERENCE = 70_000  # digits, where Twinvec has no rate for a contestant's own number to compare with
PROCESSES = 2  # of batched Celery: as many as work on pictures here, one that takes them in and one that embeds them
RAYS = [{"actors": actors, "batch": 16_384} for actors in (1, 2)]
ONCE = 1_000_000  # digits; so many, or more, are stored in one round only


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What runs: the script of `runs/` that sends the digits, and what else it is told."""

    title: str
    run: str
    told: dict[str, Any] = field(default_factory=dict)
    place: Callable[[], AbstractContextManager[Place]] = ledger
    most: int = 10_000_000  # digits that it can store in a while; of more it stores these
    warm: int = 5_000  # digits that it stores before its clock runs
    rival: str = "twinvec"  # that it is compared with


CONTESTANTS = {
    "twinvec": Contestant(title="Twinvec", run="twinvec", place=everything, told={"png": False}),
    "unsearched": Contestant(title="Twinvec without search", run="twinvec", place=unsearched, told={"png": False}),
    "plain": Contestant(title="plain script", run="plain", told={"png": False}),
    "ray": Contestant(title="Ray Data", run="rays", told=RAYS[0]),
    "batched": Contestant(
        title="batched Celery", run="celery_peer", most=20_000, told={"batch": 256, "processes": PROCESSES}
    ),
    "naive": Contestant(title="naive Celery", run="celery_peer", most=300, warm=5, told={"batch": 1, "processes": 1}),
    "twinvec-png": Contestant(
        title="Twinvec, PNG", run="twinvec", place=everything, most=REFERENCE, rival="twinvec-png", told={"png": True}
    ),
    "plain-png": Contestant(
        title="plain script, PNG", run="plain", most=REFERENCE, rival="twinvec-png", told={"png": True}
    ),
}

Runs = dict[tuple[str, int], list[dict[str, Any]]]  # by contestant and number of digits


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    contestants = {name: CONTESTANTS[name] for name in wanted.only}
    if "ray" in contestants:
        contestants["ray"] = tuned(contestants["ray"], min(REFERENCE, max(wanted.sizes)))
    runs: Runs = defaultdict(list)
    for turn in range(wanted.rounds):
        for size in [size for size in wanted.sizes if turn == 0 or size < ONCE]:
            for name, contestant in contestants.items():
                count = min(size, contestant.most)
                if len(runs[name, count]) <= turn:  # not where a smaller size was cut to the same number
                    runs[name, count].append(measured(contestant, count))
    parts = [rates(runs), stages(runs), notes(runs), circumstances(load)]
    publish("bulk", "\n\n".join(part for part in parts if part), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line. Ends the process where it is not to be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,70000,1000000", help="numbers of digits")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/performance.md")
    wanted = parser.parse_args()
    wanted.sizes = sorted(int(size) for size in wanted.sizes.split(","))
    wanted.only = wanted.only.split(",")
    if unknown := set(wanted.only) - CONTESTANTS.keys():
        parser.error(f"no contestant is called {', '.join(sorted(unknown))}")
    return wanted


def tuned(contestant: Contestant, count: int) -> Contestant:
    """Ray Data as it is the fastest here."""
    tried = [replace(contestant, told=told) for told in RAYS]
    return min(tried, key=lambda one: measured(one, count)["seconds"])


def measured(contestant: Contestant, count: int) -> dict[str, Any]:
    """One run, checked. Ends the process where anything is missing or wrong."""
    with contestant.place() as place:
        where: dict[str, Any] = {"place": asdict(place), "count": count, "warm": contestant.warm}
        run = alone(contestant.run, **where, **contestant.told)
        alone("check", **where)
    print(f"{contestant.title} {contestant.told}, {count:,} digits: {run['seconds']:.2f} s", flush=True)
    return run | {"rate": count / run["seconds"]}


def rates(runs: Runs) -> str:
    """Images a second of each contestant, and how many times as fast Twinvec is."""
    rows = []
    for (name, count), done in sorted(runs.items(), key=lambda item: (item[0][1], list(CONTESTANTS).index(item[0][0]))):
        contestant = CONTESTANTS[name]
        rival = runs.get((contestant.rival, count)) or runs.get((contestant.rival, REFERENCE))
        ratio = "" if rival is None else f"{_rate(rival) / _rate(done):,.2f}"
        rows.append([f"{count:,}", contestant.title, spread([run["rate"] for run in done]), ratio])
    return table(["digits", "contestant", "images/s", "Twinvec is times as fast"], rows, words=2)


def stages(runs: Runs) -> str:
    """Where Twinvec's seconds went, in its median run."""
    rows = []
    for (name, count), done in runs.items():
        if CONTESTANTS[name].run == "twinvec":
            middle = sorted(done, key=lambda run: run["seconds"])[len(done) // 2]
            spent = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in middle["stages"].items())
            seconds = [f"{middle[name]:.2f}" for name in ("accepted", "seconds")]
            rows.append([CONTESTANTS[name].title, f"{count:,}", *seconds, spent])
    if not rows:
        return ""
    heads = ["contestant", "digits", "all accepted after s", "all embedded after s", "stages: sums over batches, in s"]
    return table(heads, rows)


def notes(runs: Runs) -> str:
    """How the contestants were set."""
    said = {CONTESTANTS[name].title: run["note"] for (name, _), done in runs.items() for run in done if "note" in run}
    lines = [f"- {title}: {note}." for title, note in said.items()]
    if max(len(done) for done in runs.values()) > 1 and any(count >= ONCE for _, count in runs):
        lines.append(f"- Of {ONCE:,} digits: one round only.")
    return "\n".join(lines)


def _rate(done: list[dict[str, Any]]) -> float:
    return float(statistics.median(run["rate"] for run in done))


if __name__ == "__main__":
    main()
