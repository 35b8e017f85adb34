"""What is soaked: all that `twinvec up` runs, and a second worker on each lane, which nobody kills.

Those that are killed show that the work goes on; what a process gains with its age is seen on those that live on. What
is asked of them is `load`; what is measured is in `samples`.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from db.engine import connect
from local.child import SERVICES
from local.detached import start_detached, stop_detached
from local.processes import MARK
from local.servers.process import alive
from tests.chaos.injection import Injection
from tests.chaos.ledger import Ledger
from tests.chaos.member import Member, is_helper, strike
from tests.chaos.towers import register
from tests.chaos.waiting import until
from worker.runfile import RunFile, run_file
from worker.settings import Settings

STEADY = {  # name -> lanes
    "front-2": "query,control,express",
    "intake-2": "intake",
    "embedder-2": "embed,backfill",
    "trainer-2": "train",
}
READY_WITHIN = 180.0  # seconds


class Stack:
    """Servers, workers and their ledger; a context manager.

    settings: environment of all that it starts. steady: the workers that nobody kills, and their lanes. stand_in:
    whether a matrix product stands where towers do, so that everything starts in a second or two; a first one is
    registered then.
    """

    def __init__(
        self, settings: Mapping[str, str], *, steady: Mapping[str, str] = STEADY, stand_in: bool = False
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="twinvec-soak-"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWINVEC_", "CHAOS_"))}
        self.temporary = self.home / "tmp"  # of the supervisor and of the steady workers: seen when it grows
        self._environment = {
            **kept,
            **settings,
            "TWINVEC_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "REMAP_SIGTERM": "SIGQUIT",
        }
        self.stand_in = stand_in
        if stand_in:
            injection = Injection(self.home / "chaos")
            injection.prepare()
            self._environment |= {**injection.environment(), "CHAOS_TOWER": "stand-in"}
        self.lanes = {name: words[words.index("--lanes") + 1] for name, words in SERVICES.items() if "--lanes" in words}
        self.lanes |= steady
        self.steady: dict[str, Member] = {}
        self._steady = dict(steady)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self.temporary.mkdir()
        run = start_detached(self.home, broker_port=0, environment=self._environment)
        self.broker_url, self.database_url = (
            run.broker_url,
            run.database_url.replace("postgresql:", "postgresql+psycopg:"),
        )
        self.settings = Settings.model_validate(self._as_settings())
        self.engine = connect(self.database_url)
        self.ledger = Ledger(self.engine, lambda: None)
        if self.stand_in:
            register(self.engine)
        for name, lanes in self._steady.items():
            command = ("-m", "cli", "worker", "--lanes", lanes, "--name", name)
            self.steady[name] = Member(name, command, self.home, {**self._environment, MARK: str(self.home)})
            self.steady[name].start()
        until(lambda: all(member.ready() for member in self.steady.values()), "the workers", within=READY_WITHIN)

    def stop(self) -> None:
        """End all of it and remove its folder."""
        for member in self.steady.values():
            member.end()
        if hasattr(self, "engine"):
            self.engine.dispose()
        stop_detached(self.home, grace=0)
        shutil.rmtree(self.home, ignore_errors=True)

    def workers(self) -> dict[str, int]:
        """The pids of what the supervisor starts again, by name."""
        run = RunFile.read(run_file(self.home))
        return {} if run is None else run.workers

    def supervisor(self) -> psutil.Process | None:
        run = RunFile.read(run_file(self.home))
        return None if run is None else run.holder()

    def family(self, name: str) -> list[psutil.Process]:
        """A worker's parent process first, then all below it; empty where it is dead."""
        if name in self.steady:
            return self.steady[name].family()
        with suppress(psutil.Error, KeyError):
            parent = psutil.Process(self.workers()[name])
            return [parent, *parent.children(recursive=True)] if alive(parent) else []
        return []

    def pool(self, name: str) -> list[psutil.Process]:
        return [each for each in self.family(name)[1:] if alive(each) and not is_helper(each)]

    def works(self, name: str) -> bool:
        """Whether a worker runs, and has loaded what its work needs."""
        ready = name == "beat" or (self.home / "run" / f"{name}.ready").exists()
        return bool(ready and self.family(name) and (name == "beat" or self.pool(name)))

    def _as_settings(self) -> dict[str, str]:
        named = {name.removeprefix("TWINVEC_").lower(): value for name, value in self._environment.items()}
        known = {name: value for name, value in named.items() if name in Settings.model_fields}
        return {**known, "broker_url": self.broker_url, "database_url": self.database_url}


class Killer:
    """Chooses what dies next: each service in turn, and of it the pool process, the parent or both, by chance."""

    def __init__(self, stack: Stack, seed: int = 0) -> None:
        self._stack, self._random = stack, random.Random(seed)
        self._turns = self._endless()
        self.done: dict[str, int] = {}

    def kill(self) -> str:
        """SIGKILL for the next victim; what it was."""
        name = next(self._turns)
        family, pool = self._stack.family(name), self._stack.pool(name)
        kinds = {"parent": family[:1], "tree": family} | ({"pool process": pool} if pool else {})
        what = self._random.choice(list(kinds))
        (self._stack.home / "run" / f"{name}.ready").unlink(missing_ok=True)
        strike(kinds[what])
        self.done[what] = self.done.get(what, 0) + 1
        return name

    def _endless(self) -> Iterator[str]:
        while True:
            names = list(SERVICES)
            self._random.shuffle(names)
            yield from names
