"""A script for cron: embed what lies in a folder, every night, and complain by the exit status.

    0 2 * * *  python cron_folder.py /data/scans --broker redis://localhost:6379/0

The same folder again stores nothing twice: a file that was embedded is `unchanged`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twinvec_client import Twinvec, TwinvecError


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--broker", default="redis://localhost:6379/0")
    parser.add_argument("--collection", default="scans")
    given = parser.parse_args()
    files = sorted(path for path in given.folder.iterdir() if path.suffix in (".png", ".jpg"))
    try:
        with Twinvec(given.broker) as tv:
            job = tv.embed(((path.name, path) for path in files), collection=given.collection)
            outcome = job.wait(timeout=3600)
            for failure in job.failures():
                print(f"{failure.key}: {failure.reason}: {failure.message}", file=sys.stderr)
    except TwinvecError as error:
        print(f"not embedded: {error}", file=sys.stderr)
        return 2
    print(f"{outcome.succeeded} embedded, {outcome.unchanged} unchanged, {outcome.failed} failed")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
