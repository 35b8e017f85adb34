"""The `twinvec` command as a script calls it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Twinvec = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def twinvec(tmp_path: Path) -> Twinvec:
    """Runs the command with a home of its own and no setting but those given."""

    def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
        return subprocess.run(
            [sys.executable, "-P", "-m", "cli", *arguments],
            env=environment | {"TWINVEC_HOME": str(tmp_path / "home")} | settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
