"""One process of a fleet, and the signals that reach it and all below it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from local.servers.process import alive, wait_for_end
from tests.chaos.injected.sitecustomize import REFUSED
from worker.forkserver import FORK_SERVER

ROOT = Path(__file__).parents[2]
AGAIN_AFTER = 0.1  # seconds from a death to the next start, as systemd's default


class Member:
    """A process with a session of its own, its output in a file, started again when it dies.

    command: the arguments of `python`. before: words that start that elsewhere, on another host for instance.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        environment: Mapping[str, str],
        *,
        before: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.log = home / "logs" / f"{name}.log"
        self.starts = 0
        self._is_worker = "worker" in command
        self._ready = home / "chaos" / f"{name}.ready"
        self._command = [*before, sys.executable, "-P", *command]
        self._temporary = home / "chaos" / "tmp" / name
        self._environment = {
            **environment,
            "TWINVEC_READY_FILE": str(self._ready),
            "TMPDIR": str(self._temporary),  # which goes with the home, whatever killed processes leave there
        }
        self._popen: subprocess.Popen[bytes] | None = None
        self._again_at: float | None = None
        self._lock = threading.Lock()
        self._ended = False

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        self._temporary.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1
        self._again_at = None

    def look_after(self) -> None:
        """Start it again if it died."""
        with self._lock:
            if self._ended or self._popen is None or self._popen.poll() is None:
                return
            if self._again_at is None:
                strike(self._remains())
                self._again_at = time.monotonic() + (3600 if self._popen.returncode == REFUSED else AGAIN_AFTER)
            elif time.monotonic() >= self._again_at:
                self.start()

    def end(self) -> None:
        """Kill it and all that it started, for good."""
        with self._lock:
            self._ended = True
            if self._popen is not None:
                strike([*self.family(), *self._remains()])
                self._popen.wait()

    def rest(self) -> None:
        """Kill it and leave it dead until `start`."""
        with self._lock:
            strike([*self.family(), *self._remains()])
            if self._popen is not None:
                self._popen.wait()
            self._popen = None
            self._ready.unlink(missing_ok=True)

    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def ready(self) -> bool:
        """Whether it runs and a pool process of it has told so since it was started."""
        return self.alive() and (not self._is_worker or "cli" not in self._command or self._ready.exists())

    def works(self) -> bool:
        """Whether it is ready and its pool has not died since."""
        return self.ready() and bool(self.pool())

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen is not None else 0

    def process(self) -> psutil.Process | None:
        try:
            return psutil.Process(self.pid) if self.alive() else None
        except psutil.NoSuchProcess:
            return None

    def pool(self) -> list[psutil.Process]:
        """Its living pool processes; not those that count semaphores or decode pictures."""
        return [each for each in self.family()[1:] if alive(each) and not is_helper(each)]

    def family(self) -> list[psutil.Process]:
        """Its parent process first, then all below it."""
        if (parent := self.process()) is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [parent, *parent.children(recursive=True)]
        return []

    def holders(self) -> list[str]:
        """The names under which its processes hold leases."""
        return [f"{os.uname().nodename}:{process.pid}" for process in self.family()]

    def _remains(self) -> list[psutil.Process]:
        """Whatever still runs in its session."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if self.pid and os.getsid(process.pid) == self.pid and process.pid != self.pid:
                    found.append(process)
        return found


def strike(processes: Iterable[psutil.Process | None]) -> None:
    """Stop them all, then kill them all, so that none sees another one die; and wait for their end."""
    victims = [process for process in processes if process is not None]
    send(victims, signal.SIGSTOP)
    send(victims, signal.SIGKILL)
    for process in victims:
        wait_for_end(process, 10)


def send(processes: Iterable[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def is_helper(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return process.name() == FORK_SERVER or "_tracker import" in command or "sandbox_process" in command
    return False
