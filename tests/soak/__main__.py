"""`python -m tests.soak`: an hour at a tenth of full load, a process killed every minute; what grew meanwhile."""

import argparse
import signal
import sys
from pathlib import Path

import numpy as np

from tests.chaos.pictures import real
from tests.soak.soak import Soak, run


def main() -> int:
    """The exit status: 1 where something was lost, twice or wrong, or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=60, metavar="SECONDS", help="between two kills")
    parser.add_argument("--trainings", type=float, default=540, metavar="SECONDS", help="between two trainings")
    parser.add_argument("--keep", type=float, default=5, metavar="MINUTES", help="that an ended job is kept")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="keep what was measured, as JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # which ends what was started

    def say(soak: Soak) -> None:
        latest = soak.samples[-1]
        print(f"{soak.seconds:6.0f} s  load {latest['load average']:.1f}  {soak.counts}  {soak.problems}", flush=True)
        if arguments.samples:
            soak.write(arguments.samples)

    digits = np.stack(list(real(60_000).values()))
    soak = run(
        digits,
        minutes=arguments.minutes,
        every=arguments.every,
        keep=arguments.keep,
        trainings=arguments.trainings,
        settings={},
        say=say,
    )
    if arguments.samples:
        soak.write(arguments.samples)
    print(soak.lost, soak.twice, soak.wrong, soak.problems, soak.kills, soak.towers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
