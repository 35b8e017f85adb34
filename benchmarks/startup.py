"""How long `twinvec up --detach` takes until it returns, in a new folder and in one that has a live tower.

python -m benchmarks.startup                 # prints the table
python -m benchmarks.startup --write         # and puts it in docs/performance.md
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.pages import circumstances, publish, table
from benchmarks.processes import ROOT, alone, quiet
from local.processes import find_marked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5, help="of each kind")
    parser.add_argument("--write", action="store_true", help="put the table in docs/performance.md")
    wanted = parser.parse_args()
    load = os.getloadavg()[0]
    tower = ROOT / ".twinvec" / "benchmarks" / "default.keras"
    tower.parent.mkdir(parents=True, exist_ok=True)
    alone("tower", file=str(tower), recipe="default")
    first = []
    for _ in range(wanted.starts):
        with home() as folder:
            first.append(start(folder))
    with home() as folder:
        start(folder)
        twinvec(folder, "register", str(tower))
        twinvec(folder, "down")
        later = []
        for _ in range(wanted.starts):
            later.append(start(folder))
            twinvec(folder, "down")
    rows = [
        [title, f"{statistics.median(wall):.1f}", f"{max(wall):.1f}", f"{statistics.median(cpu):.1f}"]
        for title, (wall, cpu) in (
            ("in a new folder: the database is made", tuple(zip(*first, strict=True))),
            ("with a live tower", tuple(zip(*later, strict=True))),
        )
    ]
    heads = ["`twinvec up --detach`", "ready after s", "longest", "seconds of the processor by then"]
    publish("startup", f"{table(heads, rows)}\n\n{circumstances(load)}", write=wanted.write)


@contextmanager
def home() -> Iterator[Path]:
    """A folder of its own; what runs in it is stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="twinvec-start-") as folder:
        try:
            yield Path(folder)
        finally:
            twinvec(Path(folder), "down", "--now")


def start(folder: Path) -> tuple[float, float]:
    """Start a stack: seconds until it is ready, and seconds of the processor of all Python processes by then."""
    began = time.perf_counter()
    twinvec(folder, "up", "--detach", "--broker-port", "0")
    wall, cpu = time.perf_counter() - began, 0.0
    for process in find_marked(folder):
        with process.oneshot():
            spent = process.cpu_times()
            cpu += spent.user + spent.system
    supervisor = next(each for each in psutil.process_iter(["cmdline"]) if _holds(each, folder)).cpu_times()
    return wall, cpu + sum(supervisor[:4])


def _holds(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is the supervisor of the stack in a folder."""
    try:
        return "up" in process.cmdline() and process.environ().get("TWINVEC_HOME") == str(folder)
    except psutil.Error:
        return False


def twinvec(folder: Path, *words: str) -> None:
    """Run a command of the stack in a folder."""
    command = [sys.executable, "-m", "cli", *words]
    environment = quiet() | {"TWINVEC_HOME": str(folder)}
    subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
