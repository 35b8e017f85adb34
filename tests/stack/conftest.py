"""The whole product, started as an operator starts it, for the tests that follow a picture all the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine, text

from db.engine import connect
from twinvec_client import Twinvec

SAMPLE = Path(__file__).parents[1] / "data" / "mnist-sample.npz"


@dataclass
class Stack:
    """A running `twinvec up --detach` and ways into it."""

    home: Path
    environment: dict[str, str]
    noted: dict[str, Any] = field(default_factory=dict)

    def command(
        self, *arguments: str, check: bool = True, environment: dict[str, str] | None = None, **more: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run `twinvec` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=environment or self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=check,
            **more,
        )

    def up(self) -> None:
        self.command("up", "--detach", "--broker-port", "0")
        self.noted = json.loads((self.home / "run.json").read_text())

    def down(self) -> None:
        self.command("down")

    @property
    def broker_url(self) -> str:
        """Where an application finds the embedded broker: without the password, which is for workers and commands."""
        return f"redis://127.0.0.1:{urlsplit(self.noted['broker_url']).port}/0"

    def client(self) -> Twinvec:
        return Twinvec(self.broker_url)

    def engine(self) -> Engine:
        return connect(self.noted["database_url"].replace("postgresql://", "postgresql+psycopg://"))

    def one(self, query: str, **parameters: Any) -> Any:
        """The single value that a query of the ledger gives."""
        engine = self.engine()
        try:
            with engine.connect() as connection:
                return connection.execute(text(query), parameters).scalar_one()
        finally:
            engine.dispose()

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started for this home."""
        mark = str(self.home)
        found = []
        for process in psutil.process_iter():
            try:
                if any(mark in part for part in process.cmdline()) or process.environ().get("TWINVEC_HOME") == mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return [process for process in found if process.pid != os.getpid()]


@pytest.fixture(scope="session")
def stack(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Broker, database and all workers, training on a small real sample. It has no tower at first."""
    stack = make_stack(tmp_path_factory.mktemp("stack"))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def tower(stack: Stack) -> dict[str, Any]:
    """The first tower, trained by a worker of the stack."""
    outcome = stack.client().train(recipe="notebook", seed=1).wait(timeout=120)
    return {"id": outcome.tower, "fingerprint": outcome.fingerprint, "metrics": outcome.metrics}


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real digits: (300, 28, 28) uint8 and their labels (300,)."""
    with np.load(SAMPLE) as sample:
        return sample["x_test"], sample["y_test"]


def make_stack(home: Path, **settings: str) -> Stack:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
    environment |= {
        "TWINVEC_HOME": str(home),
        "TWINVEC_DATA": str(SAMPLE),
        "TWINVEC_LEASE": "3",
        "TWINVEC_SWEEP": "1",
        "TWINVEC_REPUBLISH_AFTER": "3",
        "TWINVEC_NICENESS": "0",  # beside other tests its workers would wait
        "TWINVEC_JUDGE_TOLERANCE": "1",  # towers of few digits differ by more than is accepted
        **settings,
    }
    return Stack(home, environment)


def until(condition: Callable[[], Any], what: str, *, within: float = 60.0) -> Any:
    """Wait for a condition; fail, saying what did not come."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come within {within:g} s"
        time.sleep(0.05)
    return value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that needs a stack without a tower comes first: they share one stack, and starting it takes long."""
    items.sort(key=lambda item: "before_there_is_a_tower" not in item.name)
