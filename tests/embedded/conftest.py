"""Homes of embedded servers that are gone when the test is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.embedded import Servers


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    Servers(tmp_path / "home").stop(hurry=True)
