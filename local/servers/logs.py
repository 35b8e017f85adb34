"""Log files that do not grow for ever. It must not know whose they are."""

from __future__ import annotations

from pathlib import Path

LARGEST = 10_000_000  # bytes


def rotate_if_large(log: Path) -> Path:
    """The same path; a log that has grown past its limit is put aside as `<name>.1` first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LARGEST:
        log.replace(log.with_name(f"{log.name}.1"))
    return log
