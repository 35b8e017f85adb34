"""`run.json`, what a running stack notes of itself in its home folder: the one reader and writer.

It must not know the servers: it notes where they are.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from twinvec_client.contract.broker import PREFIX


def run_file(home: Path) -> Path:
    """Where the stack in `home` notes itself."""
    return home / "run.json"


def loading_file(ready: Path) -> Path:
    """Where a worker whose `TWINVEC_READY_FILE` is `ready` notes what loads for it: a pid, and why that failed."""
    return ready.with_suffix(".loading")


class RunFileError(Exception):
    """`run.json` is there and cannot be read, so that nobody knows where the stack's servers are."""

    def __init__(self, path: Path, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        super().__init__(
            f"cannot read {path} ({reason}): run as the user who started the stack, or begin anew with `twinvec down` "
            f"and `twinvec up`"
        )


@dataclass
class RunFile:
    """`run.json`: written by the supervisor of the home folder's stack, read by every command."""

    broker_url: str
    database_url: str
    supervisor: int  # pid
    created: float  # when that process was started: the pid alone may be another process's by now
    ready: bool = False
    prefix: str = PREFIX  # of its keys in the broker
    workers: dict[str, int] = field(default_factory=dict)  # name -> pid
    http: dict[str, str] = field(default_factory=dict)  # name -> where it serves /metrics, /live and /ready

    @classmethod
    def read(cls, path: Path) -> RunFile | None:
        """What the file says, or None where it is missing or cannot be used."""
        try:
            return cls.require(path)
        except RunFileError:
            return None

    @classmethod
    def require(cls, path: Path) -> RunFile | None:
        """What the file says, or None where it is missing. Raises RunFileError where it cannot be used."""
        try:
            with path.open() as file:
                _require_own(file.fileno())
                return cls(**json.loads(file.read()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunFileError(path, error) from None

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
            runs = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            return process if same and runs else None
        except psutil.NoSuchProcess:
            return None


def _require_own(file: int) -> None:
    """Raises PermissionError where another user, who is not root, wrote it: it says which broker gets pictures, and
    which process is ended. A folder that lies around may hold one."""
    if os.fstat(file).st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "it is another user's")
