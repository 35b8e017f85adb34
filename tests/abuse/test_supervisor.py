"""What happens to a machine while `twinvec up` runs: no room, a damaged file, a clock that is set, a pid that is
another's by now. The supervisor goes on, kills no stranger, and says what it changed."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from local import child, detached, stack
from local.child import Child
from local.servers import Servers, postgres
from local.servers.logs import rotate_if_large
from local.stack import Stack
from tests.makers import eventually
from worker.runfile import RunFile, RunFileError
from worker.settings import Settings

SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); "


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A process with a pool of one, in place of a worker."""
    program = tmp_path / "cli"
    program.mkdir()
    (program / "__init__.py").touch()
    (program / "__main__.py").write_text(SLEEPER + "time.sleep(99)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Child("beat", tmp_path / "home", {})
    worker.start()
    yield worker
    for process in members(worker.pid):
        process.kill()
    worker.reap()


def members(session: int) -> list[psutil.Process]:
    """The processes of a session that run."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except OSError:
            continue
    return found


def test_the_pool_of_a_dead_worker_is_ended_while_its_pid_is_its_own(worker: Child) -> None:
    first = worker.pid
    eventually(lambda: len(members(first)) == 2, "the worker and its pool")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: worker.died() is not None, "its end")
    eventually(lambda: not members(first), "the end of its pool")
    # Whoever gets the pid from here on is a stranger.
    with pytest.raises(ChildProcessError):
        os.waitpid(first, os.WNOHANG)


def test_a_stranger_with_the_session_of_a_dead_worker_is_left_alone(
    worker: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "getsid", lambda pid: worker.pid if pid == stranger.pid else -1)
            worker._end_orphans()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_worker_that_finds_no_room_to_start_is_tried_again(worker: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LONGEST_PAUSE", 0.01)
    full = True
    room = rotate_if_large

    def rotate(log: Path) -> Path:
        if full:
            raise OSError(28, "No space left on device")
        return room(log)

    monkeypatch.setattr(child, "rotate_if_large", rotate)
    os.kill(worker.pid, signal.SIGKILL)
    said: list[str] = []

    def tried() -> bool:
        said.extend(filter(None, [worker.restart_if_dead()]))
        return len(said) > 2

    eventually(tried, "three tries")
    assert all("beat cannot be started: No space left on device" in line for line in said)
    full = False
    eventually(lambda: "restarted" in (worker.restart_if_dead() or ""), "its start")
    assert worker.died() is None


def test_the_supervisor_outlives_a_full_disk_and_notes_itself_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise OSError(28, "No space left on device")  # its log is there, too

    monkeypatch.setenv("TWINVEC_HOME", str(tmp_path))
    watched: Any = Stack(Settings(), say=say)
    noted: list[bool] = []
    full = True

    class Dying:
        name, pid, http_port = "front", 1, 9464

        def restart_if_dead(self) -> str | None:
            return "front ended with status 9: killed; restarted"

    def write(self: RunFile, path: Path) -> None:
        if full:
            raise OSError(28, "No space left on device")
        noted.append(self.ready)
        watched._ending.set()

    def look() -> list[str]:
        nonlocal full
        full = len(said) < 9
        return ["a server cannot be started: No space left on device"]

    monkeypatch.setattr(RunFile, "write", write)
    monkeypatch.setattr(stack, "_POLL", 0.001)
    monkeypatch.setattr(watched, "_check_servers_and_logs", look)
    monkeypatch.setattr(Stack, "broker_url", "redis://")
    monkeypatch.setattr(Stack, "database_url", "postgresql://")
    watched._children = [Dying()]
    watched.supervise_aside()
    watched._watch.join(10)
    assert noted == [True]
    assert sum("cannot write" in line for line in said) == 1


def test_a_stack_is_found_after_the_clock_was_set(tmp_path: Path) -> None:
    holding = (
        "import fcntl, os, sys; lock = open(sys.argv[1], 'a+'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "lock.write(str(os.getpid())); lock.flush(); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", holding, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        run = RunFile(broker_url="", database_url="", supervisor=holder.pid, created=1.0, ready=True)
        run.write(tmp_path / "run.json")
        assert run.holder() is None  # as after a step of the clock
        assert detached.running(tmp_path) == run
    finally:
        holder.kill()
        holder.wait()
    assert detached.running(tmp_path) is None


def test_notes_of_another_user_are_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.json"
    RunFile(broker_url="redis://a.example", database_url="", supervisor=1, created=1.0).write(file)
    assert RunFile.require(file) is not None
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    os.chown(file, 4712, -1)
    with pytest.raises(RunFileError, match="another user's"):
        RunFile.require(file)


@pytest.mark.usefixtures("costly")
def test_a_damaged_append_only_file_is_kept_and_the_broker_starts_anew(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "home", database=False)
    with servers:
        broker = redis.Redis.from_url(servers.broker_url)
        for number in range(100):
            broker.set(f"key-{number}", "value" * 20)
        broker.close()
    (file,) = (tmp_path / "home" / "valkey" / "appendonlydir").glob("*.incr.aof")
    content = bytearray(file.read_bytes())
    content[2000:2100] = os.urandom(100)
    file.write_bytes(content)
    with Servers(tmp_path / "home", database=False) as again:
        broker = redis.Redis.from_url(again.broker_url)
        assert broker.ping()
        broker.close()
        (told,) = again.changed()
        assert again.changed() == []
    kept = tmp_path / "home" / "valkey" / "damaged-1"
    assert f"kept as {kept}" in told
    assert (kept / file.name).read_bytes() == content


@pytest.mark.usefixtures("costly")
def test_what_an_embedded_broker_writes_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "home" / "valkey").mkdir(parents=True, mode=0o755)  # by an older version
    with Servers(tmp_path / "home", database=False):
        assert (tmp_path / "home" / "valkey").stat().st_mode & 0o077 == 0
        assert (tmp_path / "home" / "logs").stat().st_mode & 0o007 == 0


def test_folders_that_are_opened_to_the_databases_user_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed" / "home").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(pwd, "getpwnam", lambda user: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    opened = postgres._admit("pgserver", tmp_path / "closed" / "home")
    assert tmp_path / "closed" in opened
    assert (tmp_path / "closed").stat().st_mode & 0o001
    assert postgres._admit("pgserver", tmp_path / "closed" / "home") == []
