"""`python -m tests.soak`: a stack at a tenth of its full load for an hour, a process killed every minute; what grew.

--write puts the table in docs/reliability.md, --read takes what was measured before instead of measuring it.
"""

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tests.chaos.__main__ import PAGE, machine, versions
from tests.chaos.pictures import real
from tests.soak.soak import Soak, run
from tests.soak.tables import judged, markdown

BEGIN, END = "<!-- soak -->", "<!-- soak: end -->"
KEYS = 60_000  # MNIST's training digits


def main() -> int:
    """The exit status: 1 where something was lost, twice or wrong, or grew, or doctor was not right."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="how long; 60 if not given")
    parser.add_argument("--warm-up", type=float, default=20, metavar="N", help="minutes that are not judged")
    parser.add_argument("--keep", type=float, default=5, metavar="N", help="minutes that an ended job is kept")
    parser.add_argument("--every", type=float, default=60, metavar="N", help="seconds between two kills")
    parser.add_argument("--trainings", type=float, default=300, metavar="N", help="seconds between two trainings")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="where to keep what was measured, as JSON")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take what --samples kept")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reliability.md")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # which ends what was started

    def say(soak: Soak) -> None:
        print(f"{soak.seconds:6.0f} s, load {soak.samples[-1]['load average']:.1f}: {soak.counts}", flush=True)
        if arguments.samples:
            soak.write(arguments.samples)

    if arguments.read:
        soak = Soak.read(arguments.read)
    else:
        soak = run(
            np.stack(list(real(KEYS).values())),
            minutes=arguments.minutes,
            every=arguments.every,
            keep=arguments.keep,
            trainings=arguments.trainings,
            warm_up=arguments.warm_up,
            say=say,
        )
        if arguments.samples:
            soak.write(arguments.samples)
    text = f"{markdown(soak)}\n{circumstances(soak)}"
    print(text)
    for problem in soak.problems:
        print(problem)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return int(bool(soak.problems or any(found.grows for _, found in judged(soak))))


def circumstances(soak: Soak) -> str:
    day = datetime.fromtimestamp(soak.started, UTC)
    return f"`python -m tests.soak`, {day:%Y-%m-%d}, on {machine()}, with {versions()}."


if __name__ == "__main__":
    sys.exit(main())
