"""Real processes on servers of their own, started again when they die: what a case hurts.

What is done to them is elsewhere: `faults` (kills and the like), `injection` (exits inside the code). What is asked of
them, too: `application` (the client's side), `ledger` and `lanes`.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine

from db.engine import connect
from db.schema import migrate
from local.servers.postgres import Postgres
from local.servers.process import last_lines
from local.servers.valkey import Valkey
from tests.chaos.application import Application
from tests.chaos.faults import Faults
from tests.chaos.injection import Injection
from tests.chaos.lanes import Lanes
from tests.chaos.ledger import Ledger
from tests.chaos.member import Member
from tests.chaos.towers import register
from tests.chaos.waiting import until

SETTINGS = {
    "TWINVEC_LEASE": "3",  # faults resolve in seconds
    "TWINVEC_SWEEP": "1",
    "TWINVEC_REPUBLISH_AFTER": "2",
    "TWINVEC_JUDGE_TOLERANCE": "1",  # towers of few digits differ, and that they go live is what is wanted
}
CREW = {  # member -> the lanes it serves; `beat` is the clock
    "front": "query,control,express",
    "intake": "intake",
    "embedder-1": "embed,backfill",
    "embedder-2": "embed,backfill",
    "beat": "",
}
READY_WITHIN = 120.0  # seconds


class ForgetfulValkey(Valkey):
    """A broker without persistence: what it held is gone with it."""

    def _command(self) -> list[str | Path]:
        return [*super()._command(), "--appendonly", "no"]


class Fleet:
    """Broker, database, ledger with a tower, and members at work; a context manager.

    crew: member -> lanes. settings: environment of all members; of_member: of single ones. tower: `stand-in`, or
    `real`, the notebook's network with seeded weights. home: of the servers; a folder in the temporary one if None.
    """

    def __init__(
        self,
        crew: Mapping[str, str] = CREW,
        *,
        settings: Mapping[str, str] | None = None,
        of_member: Mapping[str, Mapping[str, str]] | None = None,
        tower: str | None = "stand-in",
        forgetful: bool = False,
        home: Path | None = None,
    ) -> None:
        self.home = home or Path(tempfile.mkdtemp(prefix="twinvec-chaos-"))
        self.settings = {**SETTINGS, **(settings or {})}
        broker = ForgetfulValkey if forgetful else Valkey
        self.broker = broker(self.home / "valkey", self.home / "logs" / "valkey.log", 0)
        self.database = Postgres(self.home / "postgres", self.home / "logs" / "postgres.log")
        self.application = Application(self.broker)
        self.injection = Injection(self.home / "chaos")
        self._tower = tower
        self._names = {name: lanes for name, lanes in crew.items()}
        self._of_member = of_member or {}
        self.members: dict[str, Member] = {}
        self.lanes = Lanes(self.broker, self.members)
        self._ending = threading.Event()
        self._supervisor_error: BaseException | None = None
        self._watch = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

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
        if error is not None:
            for member in self.members.values():
                error.add_note(f"{member.name}: {last_lines(member.log, 4)}")
        self.stop()

    def _start(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.injection.prepare()
        self.broker.start()
        self.database.start()
        self.engine: Engine = connect(self.database_url)
        migrate(self.engine)
        self.ledger = Ledger(self.engine, self.check)
        self.faults = Faults(self.members, self.ledger, self.broker, self.database, self._ending)
        if self._tower is not None:
            self.tower = register(self.engine, real=self._tower == "real")
        for name, lanes in self._names.items():
            self.add(name, lanes)
        self._watch.start()
        self.await_ready()

    def stop(self) -> None:
        """Kill everything and remove it."""
        self._ending.set()
        if self._watch.is_alive():
            self._watch.join()
        for member in self.members.values():
            member.end()
        if hasattr(self, "engine"):
            self.engine.dispose()
        self.broker.stop(immediate=True)
        self.database.stop(immediate=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def add(self, name: str, lanes: str = "", *, command: Sequence[str] | None = None, start: bool = True) -> Member:
        """One more member: a worker on these lanes, or what `command` (the arguments of `python`) runs."""
        if command is None:
            command = ("-m", "cli", "worker", "--lanes", lanes, "--name", name) if lanes else ("-m", "cli", "beat")
        member = Member(name, command, self.home, self.environment(name), before=self.before(name))
        self.members[name] = member
        if start:
            member.start()
        return member

    def await_ready(self, *names: str, within: float = READY_WITHIN) -> None:
        """Wait until members (all if none is named) have a pool process that takes tasks."""
        wanted = [self.members[name] for name in names or self.members]
        until(
            lambda: all(member.ready() for member in wanted),
            f"ready: {', '.join(member.name for member in wanted)}",
            within=within,
            check=self.check,
        )

    def until(self, condition: Callable[[], Any], what: str, *, within: float = 60) -> Any:
        """Wait for a condition; fail, saying what did not come."""
        return until(condition, what, within=within, check=self.check)

    @property
    def database_url(self) -> str:
        return self.database.url.replace("postgresql://", "postgresql+psycopg://")

    def check(self) -> None:
        """Raises where an injection has found no name to inject at, or the fleet's own supervisor has died."""
        if self._supervisor_error is not None:
            raise AssertionError("the members are no longer supervised") from self._supervisor_error
        self.injection.check()

    def before(self, name: str) -> Sequence[str]:
        """Words that a member's command begins with."""
        return ()

    def environment(self, name: str) -> dict[str, str]:
        """What a member finds in its environment."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TWINVEC_", "CHAOS_"))}
        return {
            **kept,
            **self.settings,
            "TWINVEC_HOME": str(self.home),
            "TWINVEC_BROKER_URL": self.broker.url,
            "TWINVEC_DATABASE_URL": self.database_url,
            "REMAP_SIGTERM": "SIGQUIT",
            "TWINVEC_NICENESS": "0",  # beside other tests its workers would be ready, and recover, late
            **self.injection.environment(),
            "CHAOS_TOWER": self._tower or "stand-in",
            **self._of_member.get(name, {}),
        }

    def _supervise(self) -> None:
        """Start again each member that dies, as a service manager does, the remains of its pool ended first."""
        try:
            while not self._ending.wait(0.05):
                for member in list(self.members.values()):
                    member.look_after()
        except BaseException as error:
            self._supervisor_error = error
            raise
