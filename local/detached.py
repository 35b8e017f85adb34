"""A stack that runs without its caller: started in the background, found again, and stopped by any process.

It must not know how a terminal shows any of this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from local.errors import GRACE, READY_WITHIN, StackError
from local.processes import end, find_marked
from local.servers import Servers
from local.servers.logs import rotate_if_large
from local.servers.process import last_lines, wait_for_end
from local.servers.servers import holder_of
from worker.runfile import RunFile, run_file

WARNING = "warning: "  # what a line begins with that says what is not as it should be
_TAKEN_IN = 0.2  # seconds in which a process has certainly taken its first signal
_LONGEST = GRACE + 90  # seconds that a supervisor has to stop everything


def start_detached(
    home: Path,
    *,
    broker_port: int | None = None,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunFile:
    """Run `twinvec up` in a session of its own; return what it notes of itself when it is ready.

    broker_port: of the embedded broker; 0 takes a free one, None the one of the settings.
    environment: of the stack, whose TWINVEC_HOME is `home`; this process's own if None. say: is given each warning.
    Raises StackError, with the reason that the stack itself gives. An interrupt stops what was started.
    """
    try:
        log = rotate_if_large(home / "logs" / "up.log")
        start = log.stat().st_size if log.exists() else 0
        output = log.open("ab")
    except OSError as error:
        raise StackError(
            f"cannot write to {home}: {error.strerror}; set TWINVEC_HOME to a folder of your own"
        ) from error
    port = [] if broker_port is None else ["--broker-port", str(broker_port)]
    with output:
        stack = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "up", *port],
            # wide: the one sentence that it may say stays on one line
            env={**(os.environ if environment is None else environment), "TWINVEC_HOME": str(home), "COLUMNS": "10000"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_WITHIN + 60
    try:
        while (run := _ready(home, stack.pid)) is None:
            if stack.poll() is not None:
                said = log.stat().st_size > start and last_lines(log, 1, since=start)
                raise StackError((said or "the stack ended without a word").removeprefix("twinvec: "))
            if time.monotonic() > deadline:
                raise StackError(f"the stack is not ready yet; see {log}, or stop it with `twinvec down`")
            time.sleep(0.05)
    except KeyboardInterrupt:
        _end_supervisor(psutil.Process(stack.pid), grace=5, immediate=lambda: False)
        raise
    for line in log.read_bytes()[start:].decode(errors="replace").splitlines():
        if line.startswith(WARNING):
            say(line)
    return run


def running(home: Path) -> RunFile | None:
    """What the stack in `home` notes of itself, where one runs and is ready."""
    run = RunFile.read(run_file(home))
    return run if run is not None and run.ready and _supervisor(home, run) is not None else None


def stop_detached(home: Path, *, grace: float = GRACE, immediate: Callable[[], bool] = lambda: False) -> bool:
    """Stop whatever runs in `home`, also where its supervisor was killed; whether anything ran. The data stays.

    grace: seconds that workers have for what they are doing. immediate: polled; True stops waiting.
    Raises StackError where the stack belongs to another user, EmbeddedError where another process holds the home.
    """
    if not home.is_dir():
        return False
    run = RunFile.read(run_file(home))
    supervisor = None if run is None else _supervisor(home, run)
    if supervisor is not None:
        _end_supervisor(supervisor, grace=grace, immediate=immediate)
    return _clear(home, grace=grace, immediate=immediate) or supervisor is not None


def _supervisor(home: Path, run: RunFile) -> psutil.Process | None:
    """The process that holds the stack. Where the machine's clock was set since it was started, the time of its start
    reads as another one; the lock on the home tells then, which only it holds."""
    if (found := run.holder()) is not None:
        return found
    try:
        held = holder_of(home) == run.supervisor
        return psutil.Process(run.supervisor) if held else None
    except psutil.NoSuchProcess:
        return None


def _ready(home: Path, pid: int) -> RunFile | None:
    run = RunFile.read(run_file(home))
    return run if run is not None and run.ready and run.supervisor == pid else None


def _end_supervisor(supervisor: psutil.Process, *, grace: float, immediate: Callable[[], bool]) -> None:
    """Let it stop its stack: one signal for in order, a second one for at once."""
    within = max(grace, _TAKEN_IN) if grace < GRACE else _LONGEST  # it gives GRACE by itself
    start, told_twice = time.monotonic(), False
    try:
        supervisor.terminate()
        while not wait_for_end(supervisor, 0.05):
            waited = time.monotonic() - start
            if waited > _LONGEST:
                supervisor.kill()
            elif not told_twice and (waited > within or (waited > _TAKEN_IN and immediate())):
                supervisor.terminate()
                told_twice = True
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        raise StackError(f"process {supervisor.pid}, which holds the stack, belongs to another user") from None


def _clear(home: Path, *, grace: float, immediate: Callable[[], bool]) -> bool:
    """Stop what has no supervisor any more; whether there was anything."""
    nothing = Servers(home, broker=False, database=False)
    nothing.start()  # holds the home, so that no other process starts a stack meanwhile
    left = find_marked(home)
    servers = nothing.processes()
    end(left, grace=grace, immediate=immediate)
    nothing.stop(immediate=grace == 0 or immediate())
    run_file(home).unlink(missing_ok=True)
    return bool(left or servers)
