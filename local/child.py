"""The processes of a running stack: one per service, each with a log of its own, restarted when it dies.

It must not know what they do: a service is the arguments of `twinvec`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from local.ports import free_port, is_free
from local.processes import MARK
from local.servers.logs import rotate_if_large
from local.servers.process import last_lines
from worker.forkserver import ForkServer, Start
from worker.runfile import loading_file
from worker.settings import Settings
from worker.turnstile import GO, WAIT

# name -> the arguments of `twinvec` that run it
SERVICES = {
    "front": ("worker", "--lanes", "query,express", "--name", "front"),
    "control": ("worker", "--lanes", "control", "--name", "control"),  # a slow look-up holds up no cancellation
    "intake": ("worker", "--lanes", "intake", "--name", "intake"),
    "embedder": ("worker", "--lanes", "embed,backfill", "--name", "embedder"),
    "trainer": ("worker", "--lanes", "train", "--name", "trainer"),
    "beat": ("beat",),
}
LOADS_ALONE = {"trainer"}  # services that set libraries up otherwise when they are loaded: this one has all cores
_FROM_SIGTERM = {"REMAP_SIGTERM": "SIGQUIT"}  # Celery then has a grace time, after which work is given back
_MAIN = "from cli.main import main; main()"
_LONGEST_PAUSE = 30.0  # seconds before a process that keeps crashing is restarted
_HEALTHY = 60.0  # seconds of running after which earlier crashes do not count


def pool_processes(settings: Settings) -> int:
    """How many processes of a stack work on the database: each keeps connections to it."""
    workers = [arguments for arguments in SERVICES.values() if arguments[0] == "worker"]
    return sum(settings.decoders() if "intake" in arguments else 1 for arguments in workers)


class Forks:
    """The fork server of a stack, which loads the code of the services, but of those that load their own."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        log = home / "logs" / "forks.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, rotate_if_large(log).open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.forks", str(theirs.fileno()), "-" * 100],
                env=os.environ | environment | _FROM_SIGTERM,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self.server = ForkServer(ours)

    def end(self) -> None:
        """End the server; its forks go on."""
        self._process.kill()
        self._process.wait()
        self.server.close()


class Child:
    """One process of the stack, restarted when it dies.

    It has a session of its own: a Ctrl-C reaches the supervisor alone, which ends everything in order. http_port: on
    which it serves its figures and health; 0: any that is free. forks: what it is a fork
    of, as long as that answers.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        environment: dict[str, str],
        *,
        http_port: int = 0,
        forks: ForkServer | None = None,
    ) -> None:
        self.name = name
        self._forks = forks
        self.http_port, self._any_port = http_port or free_port(), not http_port
        self.log = home / "logs" / f"{name}.log"
        self._ready = home / "run" / f"{name}.ready"
        self._temporary = home / "run" / "tmp" / name
        self._environment = environment | {
            "TWINVEC_READY_FILE": str(self._ready),
            "TMPDIR": str(self._temporary),
            **_FROM_SIGTERM,
        }
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._started = 0.0
        self._pause = 1.0
        self._again_at: float | None = None
        self._said_before = 0  # bytes of the log that earlier processes wrote

    @property
    def pid(self) -> int:
        """Of the running process, or of the one that ran last."""
        return self._process.pid if self._process is not None else 0

    def start(self, *, wait: bool = False) -> None:
        """wait: it loads its code, and waits then until it is told to proceed."""
        self._ready.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ready.unlink(missing_ok=True)
        loading_file(self._ready).unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)  # what killed processes have left there
        self._temporary.mkdir(parents=True)
        if self._any_port and not is_free(self.http_port):
            self.http_port = free_port()
        environment = os.environ | self._environment | {"TWINVEC_HTTP_PORT": str(self.http_port)}
        with rotate_if_large(self.log).open("ab") as output:
            self._said_before = output.tell()
            self._process = self._fork(environment, output) or self._execute(environment, output, wait=wait)
        self._started, self._again_at = time.monotonic(), None

    def _fork(self, environment: dict[str, str], output: BinaryIO) -> Forked | None:
        """None where that cannot be."""
        if self._forks is None:
            return None
        arguments = list(SERVICES[self.name])
        title = " ".join([sys.executable, "-P", "-m", "cli", *arguments])
        start = Start(_MAIN, ["twinvec", *arguments], environment, os.nice(0), self.name, title, session=True)
        with open(os.devnull, "rb") as nothing:
            try:
                return Forked(self._forks.fork(start, {0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()}))
            except (OSError, EOFError):  # a new interpreter does as well
                self._forks = None
                return None

    def _execute(self, environment: dict[str, str], output: BinaryIO, *, wait: bool) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: a folder or file called `worker` or `tasks` where the user stands is not ours
            [sys.executable, "-P", "-m", "cli", *SERVICES[self.name]],
            env=environment | ({WAIT: "1"} if wait else {}),
            stdin=subprocess.PIPE if wait else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def proceed(self) -> None:
        """Let a process that waits go on to work."""
        pipe = self._process.stdin if isinstance(self._process, subprocess.Popen) else None
        if pipe is not None:
            with suppress(BrokenPipeError):  # it has ended: that is noticed elsewhere
                pipe.write(GO)
                pipe.close()

    def ready(self) -> bool:
        """Whether it has loaded what its work needs."""
        return self.name == "beat" or self._ready.exists()

    def died(self) -> str | None:
        """How it ended and the end of its log, or None while it runs. Its pool is ended with it."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            if not _is_over(self._process.pid):
                return None
            self._end_orphans()  # before it is reaped: until then, nobody else gets its pid
        status = self._process.wait()
        said = last_lines(self.log, since=self._said_before)
        *_, sentence = said.rpartition("twinvec: ")  # what it refused to start for, behind other lines
        return f"{self.name} ended with status {status}: {sentence}"

    def lost_port(self) -> bool:
        """Whether it has ended, and another program listens on its port: `start` takes another one then."""
        ended = self._process is not None and self._process.returncode is not None
        return ended and self._any_port and not is_free(self.http_port)

    def failed(self) -> str | None:
        """Why it cannot load what its work needs, or None where that is not known."""
        try:
            pid, _, reason = loading_file(self._ready).read_text().partition("\n")
        except OSError:
            return None
        if not reason and (not pid or self.ready() or psutil.pid_exists(int(pid))):
            return None
        return f"{self.name} cannot load what it needs: {reason or f'its process {pid} ended meanwhile'}"

    def restart_if_dead(self) -> str | None:
        """Restart it if it died, after a pause that doubles with every crash; what to tell the operator then."""
        if self.died() is None:
            return None
        now = time.monotonic()
        if self._again_at is None:
            self._pause = 1.0 if now - self._started > _HEALTHY else min(self._pause * 2, _LONGEST_PAUSE)
            self._again_at = now + self._pause
        if now < self._again_at:
            return None
        line = f"{self.died()}; restarted"
        try:
            self.start()
        except OSError as error:  # a full disk, for instance: there may be room at the next try
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            self._again_at = now + self._pause
            return f"{self.name} cannot be started: {error.strerror or error}; tried again in {self._pause:g} s"
        return line

    def reap(self) -> None:
        """Wait for its end, so that no zombie is left."""
        if self._process is not None:
            self._process.wait()

    def _end_orphans(self) -> None:
        """Kill the dead process's pool: it would work on beside its successor."""
        for process in psutil.process_iter():
            try:
                own = os.getsid(process.pid) == self.pid and process.pid != self.pid
                if own and process.environ().get(MARK) == self._environment.get(MARK):
                    process.kill()
            except (psutil.Error, OSError):
                continue


class Forked:
    """A child that a fork server has made for this process, as `subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _is_over(pid: int) -> bool:
    """Whether a process of ours has ended. It is not reaped, so that its pid stays its own."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
