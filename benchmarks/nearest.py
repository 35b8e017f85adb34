"""Nearest stored digits: how fast, how exact, and beside what else finds them; without a queue, and through it.

    python -m benchmarks.nearest                  # prints the tables
    python -m benchmarks.nearest --write          # and puts them in docs/performance.md
    python -m benchmarks.nearest --stored 70000 --towers default --only alone

Towers are trained by their recipes, once on a machine, since an untrained one's space is not flat: nothing could be
left out of it. The largest store is searched under the last of the towers alone.
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
from benchmarks.store import QUERIES, STRANGE

PARTS = ("alone", "queue")
CHECKED = 2_000  # queries of each kind whose answers are compared with float64's; a tenth of so many in a large store
LARGE = 500_000  # digits of one

Run = dict[str, Any]


def main() -> None:
    wanted = arguments()
    load = os.getloadavg()[0]
    *smaller, largest = wanted.stored
    stores = [(tower, count) for count in smaller for tower in wanted.towers] + [(wanted.towers[-1], largest)]
    runs: dict[tuple[str, int], Run] = {}
    if "alone" in wanted.only:
        for tower, count in stores:
            print(f"the recipe {tower}, without a queue:", flush=True)
            with ledger(tower) as place:
                told = {"place": asdict(place), "count": count, "queries": wanted.queries, "peers": wanted.peers}
                checked = wanted.checked if count < LARGE else wanted.checked // 10
                runs[tower, count] = alone("nearest", **told, checked=checked)
    queued: dict[int, Run] = {}
    if "queue" in wanted.only:
        for count in wanted.stored:
            with everything(wanted.towers[-1]) as place:
                queued[count] = alone("nearest_queue", place=asdict(place), count=count, queries=wanted.queries)
            print(f"through the queue, {count:,} stored: done", flush=True)
    parts = [by_kind(runs), beside_peers(runs), other(runs), through_queue(queued), circumstances(load)]
    publish("nearest", "\n\n".join(part for part in parts if part), write=wanted.write)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line. Ends the process where it is not to be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", default="70000,1000000", help="numbers of digits in a store")
    parser.add_argument("--towers", default="notebook,quick,default", help="recipes")
    parser.add_argument("--queries", type=int, default=200, help="of each kind that are timed")
    parser.add_argument("--checked", type=int, default=CHECKED, help="of each kind that are compared with float64's")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="without them: their indexes take long")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/performance.md")
    wanted = parser.parse_args()
    wanted.stored = sorted(int(count) for count in wanted.stored.split(","))
    wanted.towers, wanted.only = wanted.towers.split(","), wanted.only.split(",")
    if unknown := set(wanted.only) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    return wanted


def by_kind(runs: dict[tuple[str, int], Run]) -> str:
    """Median and 95th percentile, and what was compared, by the kind of a query."""
    rows = []
    for (tower, count), run in runs.items():
        for kind in QUERIES:
            found = run["kinds"][kind]
            exact = f"{run['wrong'][kind]} of {run['checked'][kind]:,}"
            compared = [f"{value:,.0f}" for value in (statistics.median(found["compared"]), max(found["compared"]))]
            rows.append([f"{count:,}", tower, kind, *_milliseconds(found["milliseconds"]), *compared, exact])
    if not rows:
        return ""
    heads = [
        "stored",
        "tower",
        "queries",
        "median ms",
        "95th percentile",
        "longest",
        "compared",
        "most",
        "not float64's",
    ]
    return table(heads, rows, words=3)


def beside_peers(runs: dict[tuple[str, int], Run]) -> str:
    """Each peer: time, recall, and what it cost to build."""
    rows = []
    for (tower, count), run in runs.items():
        for peer in run["peers"]:
            recall = [f"{statistics.mean(peer['recalls']):.4f}", f"{min(peer['recalls']):.1f}"]
            strange = f"{statistics.median(peer['strange']):.1f}"
            written = "" if peer["written"] is None else f"{1e6 * peer['written']:,.1f}"
            cost = [f"{peer['built']:,.0f}" if peer["built"] else "", written, f"{peer['size'] / 1e6:,.0f}"]
            middle, high, _ = _milliseconds(peer["milliseconds"])
            rows.append([f"{count:,}", tower, peer["name"], middle, high, strange, *recall, *cost])
    if not rows:
        return ""
    heads = ["stored", "tower", "contestant", "median ms", "95th percentile", f"{' and '.join(STRANGE)}, median ms"]
    heads += ["recall@10", "its worst query", "built in s", "us to write one more", "MB"]
    return table(heads, rows, words=3)


def other(runs: dict[tuple[str, int], Run]) -> str:
    """Many at once, and filters."""
    parts = []
    if runs:
        rows = [
            [f"{count:,}", tower, *(f"{run['together'][name]:.2f}" for name in ("one", "many"))]
            for (tower, count), run in runs.items()
        ]
        parts.append(table(["stored", "tower", "ms each, one by one", "100 in one call"], rows, words=2))
    rows = [
        [f"{count:,}", tower, name, f"{found['passing']:,}", *_milliseconds(found["milliseconds"]), found["wrong"]]
        for (tower, count), run in runs.items()
        for name, found in run["filters"].items()
    ]
    if rows:
        heads = ["stored", "tower", "filter", "digits pass", "median ms", "95th percentile", "longest", "not float64's"]
        parts.append(table(heads, rows, words=3))
    return "\n\n".join(parts)


def through_queue(runs: dict[int, Run]) -> str:
    """From the client's call to its return."""
    if not runs:
        return ""
    rows = [
        [f"{count:,}", name, *_milliseconds(milliseconds), f"{statistics.median(milliseconds) - floor:+.1f}"]
        for count, run in runs.items()
        for floor in [statistics.median(run["calls"]["nothing looked up"])]
        for name, milliseconds in run["calls"].items()
    ]
    heads = ["stored", "through the queue", "median ms", "95th percentile", "longest", "more than nothing"]
    said = [
        f"Of {count:,} stored, 100 pictures in one call took {run['many']:.0f} ms and one by one {run['one']:.0f}: "
        f"{run['one'] / run['many']:.1f} times as long. A digit was found {1000 * run['fresh']:.0f} ms after `wait` "
        f"had said that it is embedded, by the first look-up. Callers that ask at once got {run['together']:,.0f} "
        f"answers a second."
        for count, run in runs.items()
    ]
    return "\n\n".join([table(heads, rows, words=2), *said])


def _milliseconds(values: list[float]) -> list[str]:
    return [f"{value:.1f}" for value in (statistics.median(values), percentile(values, 0.95), max(values))]


if __name__ == "__main__":
    main()
