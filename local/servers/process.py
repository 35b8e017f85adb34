"""Server processes that outlive the process that started them, and are found again by their working folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil


class EmbeddedError(Exception):
    """An embedded server cannot run. The message is one sentence that says why and what to do."""


def spawn(command: Sequence[str | Path], *, folder: Path, log: Path, user: str | None = None) -> psutil.Process:
    """Start a server in `folder`, appending what it says to `log`.

    It gets a session of its own, so that a Ctrl-C in the terminal reaches the workers that use it and not the
    server; and no environment but a path, because PGPORT, PGDATA and their like would change what it does.
    user: run as this system user; None runs as the current one.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )
    process = psutil.Process(child.pid)
    child.returncode = 0  # from here on it is waited for by its pid, by us or by the process that finds it later
    return process


def working_in(folder: Path, name: str) -> list[psutil.Process]:
    """The running processes called `name` whose working directory is `folder`, oldest first.

    The kernel knows this whatever became of the process that started them, where a pid file may be stale.
    """
    found = []
    for process in psutil.process_iter(["name", "create_time"]):
        if process.info["name"] != name:
            continue
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # it ended just now, or belongs to another user
            continue
    return sorted(found, key=lambda process: (process.info["create_time"], process.pid))


def await_ready(process: psutil.Process, ready: Callable[[], bool], *, seconds: float, log: Path) -> None:
    """Wait until `ready()` holds. Raises EmbeddedError, with the end of the log, if it dies before that."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive(process):
            raise EmbeddedError(f"{_name(log)} did not start; the end of {log} says: {last_lines(log)}")
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"{_name(log)} is not ready after {seconds:g} s; the end of {log} says: {last_lines(log)}"
            )
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(process: psutil.Process, seconds: float) -> bool:
    """Wait at most so long for its end; whether it came.

    Not `process.wait()`, which waits until a zombie is reaped; its parent may be a container's first process,
    which reaps none.
    """
    deadline = time.monotonic() + seconds
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(0)  # reaps it where it is our child
    return True


def last_lines(log: Path, lines: int = 3, *, since: int = 0) -> str:
    """The end of a log, joined to one line. since: bytes at its beginning that are not looked at."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, since, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return "nothing"
    return " / ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip()) or "nothing"


def _name(log: Path) -> str:
    return f"the embedded {log.stem}"
