"""What a stack notes of itself in its home folder, and how its processes are found whatever became of it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from worker.embedded.process import alive, ended

MARK = "TWINVEC_STACK"  # every process of a stack, and their children, carry the home folder under this name


@dataclass
class RunFile:
    """`run.json`: written by the one process that holds the home, read by every command."""

    broker_url: str
    database_url: str
    supervisor: int  # pid
    created: float  # when that process was made: a pid alone may be somebody else's by now
    ready: bool = False
    workers: dict[str, int] = field(default_factory=dict)  # name -> pid

    @classmethod
    def read(cls, path: Path) -> RunFile | None:
        """What stands there, or None where nothing usable does."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replace the file in one step, readable by its owner only: URLs may hold passwords."""
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(self), indent=1))
        unfinished.replace(path)

    def holder(self) -> psutil.Process | None:
        """The supervisor, if it still runs."""
        try:
            process = psutil.Process(self.supervisor)
            same = abs(process.create_time() - self.created) < 1
            return process if same and alive(process) else None
        except psutil.NoSuchProcess:
            return None


def marked(home: Path) -> list[psutil.Process]:
    """The processes that belong to the stack in `home`, this one left out.

    Their environment tells, which survives the death of every parent.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):  # it ended just now, or belongs to somebody else
            continue
    return found


def end(processes: list[psutil.Process], *, grace: float, hurried: Callable[[], bool] = lambda: False) -> None:
    """SIGTERM to those that none of the others started, so that each pool ends its own; then kill what is left.

    grace: seconds. hurried: asked meanwhile; True ends the patience.
    """
    pids = {process.pid for process in processes}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.terminate()
    left, deadline = processes, time.monotonic() + grace
    while (left := [process for process in left if alive(process)]) and time.monotonic() < deadline:
        if hurried():
            break
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for process in left:
        ended(process, 5)
