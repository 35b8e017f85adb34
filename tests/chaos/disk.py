"""A disk that can be filled: a small file system of its own, or, where none may be mounted, a limit on files."""

import os
import resource
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from local.servers.postgres import SYSTEM_USER


class Disk(ABC):
    """Where a database keeps its data."""

    how: str  # it is filled, in words
    spares_the_log: bool  # whether what the server has reserved for its log is still there when it is full

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def fill(self, server: psutil.Process) -> None:
        """Leave no room for what `server` would write."""

    @abstractmethod
    def make_room(self, server: psutil.Process | None) -> None:
        """There is room again."""


class Mounted(Disk):
    """A small file system in memory, filled by somebody else's file."""

    how = "a file system of its own, filled by another file"
    spares_the_log = True

    def fill(self, server: psutil.Process) -> None:
        with suppress(OSError), (self.folder / "hog").open("wb", buffering=0) as hog:
            for block in (2**20, 4096, 1):
                with suppress(OSError):  # no space left
                    while hog.write(bytes(block)):
                        pass

    def make_room(self, server: psutil.Process | None) -> None:
        (self.folder / "hog").unlink()


class Limited(Disk):
    """The server's files may not grow: as near to a full disk as one gets without the right to mount."""

    how = "a limit on the size of the server's files, for want of the right to mount"
    spares_the_log = False

    def fill(self, server: psutil.Process) -> None:
        self._limit(server, 4096)

    def make_room(self, server: psutil.Process | None) -> None:
        if server is not None:
            self._limit(server, resource.RLIM_INFINITY)

    def _limit(self, server: psutil.Process, size: int) -> None:
        own: dict[str, Any] = (
            {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": ()} if os.geteuid() == 0 else {}
        )
        for process in (server, *server.children()):
            soft = "unlimited" if size == resource.RLIM_INFINITY else str(size)
            with suppress(psutil.NoSuchProcess, subprocess.CalledProcessError):
                subprocess.run(
                    ["prlimit", "--pid", str(process.pid), f"--fsize={soft}:"], check=True, capture_output=True, **own
                )


@contextmanager
def small_disk(size: int = 192 * 2**20) -> Iterator[Disk]:
    """A disk of `size` bytes, gone afterwards; the real thing where this process may mount."""
    folder = Path(tempfile.mkdtemp(prefix="twinvec-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield Mounted(folder) if mounted else Limited(folder)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
