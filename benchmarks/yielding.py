"""New digits beside a backfill: from the call to the commit of one picture, idle and while stored ones are embedded.

python -m benchmarks.yielding                      # 500,000 stored digits
python -m benchmarks.yielding --stored 50000
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import asdict

from benchmarks.pages import circumstances, percentile, table
from benchmarks.processes import alone
from benchmarks.servers import everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=500_000, help="digits that are embedded under the candidate")
    parser.add_argument("--count", type=int, default=100, help="pictures sent one by one on the idle system")
    wanted = parser.parse_args()
    load = os.getloadavg()[0]
    with everything() as place:
        run = alone("yielding", place=asdict(place), stored=wanted.stored, count=wanted.count)
    rows = [
        [title, len(times), f"{1000 * statistics.median(times):,.0f}", f"{1000 * percentile(times, 0.95):,.0f}"]
        for title, times in (("an idle system", run["idle"]), ("beside the backfill", run["beside"]))
    ]
    print(table(["one picture until its vector is committed", "pictures", "median ms", "95th percentile"], rows))
    rate = run["stored"] / run["seconds"]
    print(f"\n{run['stored']:,} digits were backfilled in {run['seconds']:,.1f} s, {rate:,.0f} a second, meanwhile.")
    print(f"\n{circumstances(load)}")


if __name__ == "__main__":
    main()
