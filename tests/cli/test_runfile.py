"""What a stack notes of itself, and how its processes are found and ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from local.processes import MARK, end, find_marked
from worker.runfile import RunFile

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = f"import subprocess, sys, os; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); os._exit(0)"


def start(code: str, home: Path) -> "subprocess.Popen[bytes]":
    """A process of the stack in `home`, once it or its child says that it is up."""
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {MARK: str(home)}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


def test_processes_are_found_by_their_home_also_after_their_parents_death(tmp_path: Path) -> None:
    parent = start(PARENT, tmp_path)
    parent.wait()
    found = find_marked(tmp_path)
    assert len(found) == 1
    assert find_marked(tmp_path / "other") == []
    end(found, grace=5)
    assert find_marked(tmp_path) == []


def test_what_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    with start(STUBBORN, tmp_path) as process:
        end(find_marked(tmp_path), grace=0.2)
        assert not psutil.pid_exists(process.pid)


def test_immediate_stops_the_waiting(tmp_path: Path) -> None:
    with start(STUBBORN, tmp_path) as process:
        start_time = time.monotonic()
        end(find_marked(tmp_path), grace=30, immediate=lambda: True)
        assert not psutil.pid_exists(process.pid)
        assert time.monotonic() - start_time < 10


def noted(pid: int, created: float) -> RunFile:
    return RunFile(broker_url="redis://x", database_url="postgresql://x", supervisor=pid, created=created)


def test_the_file_is_read_back_as_it_was_written_and_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    noted(1, 2.0).write(path)
    assert RunFile.read(path) == noted(1, 2.0)
    assert path.stat().st_mode & 0o077 == 0


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"broker_url": ')
    assert RunFile.read(tmp_path / "run.json") is None
    assert RunFile.read(tmp_path / "none.json") is None


def test_a_stranger_with_the_pid_of_a_dead_supervisor_is_not_taken_for_it() -> None:
    me = psutil.Process()
    assert noted(me.pid, me.create_time()).holder() == me
    assert noted(me.pid, me.create_time() - 100).holder() is None
