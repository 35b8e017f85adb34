"""Candidates made worse on purpose are refused, one as good goes live, and a rollback answers as before.

python -m benchmarks.judging
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from benchmarks.pages import table
from benchmarks.processes import alone
from benchmarks.servers import everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=8_000, help="digits of MNIST's test images that are stored")
    wanted = parser.parse_args()
    with everything("default") as place:
        run = alone("judging", place=asdict(place), stored=wanted.stored)
    print(table(["candidate", "is"], [[each["name"], each["status"]] for each in run["candidates"]]))
    for each in run["candidates"]:
        print(f"\n{each['name']}:")
        for said in each["said"]:
            print(f"- {said}")
    rollback = run["rollback"]
    print(f"\n{run['queries']:,} look-ups meanwhile; failed or wrong: {run['wrong'] or 'none'}.")
    print(f"Until the last candidate went live, {run['live_until_then']} tower answered.")
    print(f"\nThe rollback took {rollback['seconds']:.2f} s. The answers to {rollback['asked']} look-ups:")
    print(f"- equal to the bit those from before: {rollback['the same']}")
    print(f"- were so under the tower between: {rollback['under the other']}")
    print(f"- find {rollback['found']} of {rollback['of']} digits that came meanwhile")


if __name__ == "__main__":
    main()
