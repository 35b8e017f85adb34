"""Log files that do not grow for ever: rotated by size, also while processes write. It must not know whose they are."""

from __future__ import annotations

import shutil
from pathlib import Path

LARGEST = 10_000_000  # bytes
KEPT = 3  # older files of each log: `<name>.1` is the newest of them


def rotate_if_large(log: Path, *, largest: int = LARGEST) -> Path:
    """The same path; what a log has grown to past its limit is copied to `<name>.1`, and the log is emptied.

    Copied, because processes keep the file open: they append, and go on at its new end. Through a pipe of the
    supervisor instead, they would die with it. What is written between the last look and the emptying, which follow
    each other at once, is lost.
    """
    log.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > largest:
        for age in range(KEPT, 1, -1):
            if (younger := _older(log, age - 1)).exists():
                younger.replace(_older(log, age))
        with log.open("r+b") as current, _older(log, 1).open("wb") as copy:
            shutil.copyfileobj(current, copy, 2**20)  # to the end, which may have moved meanwhile
            current.truncate(0)
    return log


def _older(log: Path, age: int) -> Path:
    return log.with_name(f"{log.name}.{age}")
