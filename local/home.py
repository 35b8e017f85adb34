"""The name of a home folder. It must not know what stands in there."""

from __future__ import annotations

from pathlib import Path


def resolve_home(home: Path) -> Path:
    """Absolute and without links or `~`: a stack has one name, and its processes carry it."""
    return home.expanduser().resolve()
