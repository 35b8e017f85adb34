"""Homes of embedded servers that are gone when the test is."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.servers import Servers


@pytest.fixture
def folder(costly: None) -> Iterator[Path]:
    """A folder that is not pytest's: each start of pytest closes its own to all but their owner, and root's
    PostgreSQL runs as another user."""
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder:
        yield Path(folder)


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    yield folder / "home"
    Servers(folder / "home").stop(immediate=True)
