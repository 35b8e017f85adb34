"""The folder in which the processes of one worker count, and the sums of what they have counted.

Each process has files of its own there, as prometheus-client's multiprocess mode has it. What a process that is gone
has counted is added to one file, so that a worker whose processes are replaced for months reads no more files. It must
not know what is counted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

PREFIX = "twinvec-metrics-"
_LOCK = "held"  # by the main process, as long as it lives
_GONE = "0"  # stands for the ids of all processes that are gone
_YOUNG = 60  # seconds: a folder that may not be held yet


class MetricsFolder(Collector):
    """A new folder, and what is counted in it. The folders of workers that are gone are removed.

    living: the ids of this worker's processes.
    """

    def __init__(self, living: Callable[[], set[int]], place: Path | None = None) -> None:
        place = place or Path(tempfile.gettempdir())
        for old in place.glob(f"{PREFIX}*"):
            _remove_if_left(old)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        self._held = _hold(self.path)
        self._living = living
        self._reading = threading.Lock()  # two that ask at once would both add what is gone

    def collect(self) -> Iterable[Metric]:
        """The sums over all processes, those that are gone among them."""
        with self._reading:
            self._add_up_gone()
            reader: Any = MultiProcessCollector  # without types
            return list(reader(None, str(self.path)).collect())

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _add_up_gone(self) -> None:
        files = list(self.path.glob("*.db"))  # before the processes are looked up: one may be born in between
        living = self._living()
        for file in files:
            kind, _, pid = file.stem.rpartition("_")
            if pid != _GONE and int(pid) not in living:
                if not kind.startswith("gauge"):  # what it held is given back
                    _add(file, file.with_stem(f"{kind}_{_GONE}"))
                file.unlink()


def _add(file: Path, to: Path) -> None:
    files: Any = MmapedDict  # without types
    sums = files(str(to))
    try:
        for key, value, _, _ in files.read_all_values_from_file(str(file)):
            before, _ = sums.read_value(key)
            sums.write_value(key, before + value, 0.0)
    finally:
        sums.close()


def _hold(folder: Path) -> int | None:
    """An open file that shows, as long as it is open, that a folder is in use; None where somebody else shows it."""
    try:
        held = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):
        about = folder.lstat()
        if about.st_uid != os.geteuid() or folder.is_symlink() or time.time() - about.st_mtime < _YOUNG:
            return
        held = _hold(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
