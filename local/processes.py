"""The processes of a stack, found whatever became of their parents, and ended. It must not know what they do."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from local.servers.process import alive, wait_for_end

MARK = "TWINVEC_STACK"  # every process of a stack, and their children, carry the home folder under this name


def find_marked(home: Path) -> list[psutil.Process]:
    """The processes that belong to the stack in `home`, this one left out.

    Their environment tells, which survives the death of every parent.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(home):
                found.append(process)
        except (psutil.Error, OSError):  # it ended just now, or belongs to another user
            continue
    return found


def end(processes: list[psutil.Process], *, grace: float, immediate: Callable[[], bool] = lambda: False) -> None:
    """SIGTERM to those that none of the others started, so that each pool ends its own; then kill what is left.

    grace: seconds. immediate: polled; True stops waiting.
    """
    pids = {process.pid for process in processes}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() not in pids:
                process.terminate()
    left, deadline = processes, time.monotonic() + grace
    while (left := [process for process in left if alive(process)]) and time.monotonic() < deadline:
        if immediate():
            break
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for process in left:
        wait_for_end(process, 5)
