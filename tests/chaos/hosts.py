"""A fleet whose broker, database, workers and client are on hosts of their own, with a network between them to hurt.

The case itself stands outside: it looks at the database through its Unix socket, which no network parts it from.
"""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from sqlalchemy import text

from db.engine import connect
from local.servers import postgres
from local.servers.postgres import Postgres
from local.servers.valkey import Valkey
from tests.chaos import sender
from tests.chaos.doctor import OPERATOR, ask_doctor
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import Ledger
from tests.chaos.network import SUBNET, Host, Network
from tests.chaos.result import Result

CREW = {
    "front": "query,control,express",
    "intake": "intake",
    "embedder": "embed,backfill",
    "trainer": "train",
    "beat": "",
}
CLIENT = "client"
PLACES = ("broker", "database", *CREW, CLIENT, OPERATOR)
CHUNK = 32  # pictures
SECONDS = 0.3  # that a batch takes
SETTINGS = {
    "TWINVEC_BACKLOG": str(8 * CHUNK),  # the client waits, so that it still sends when its network fails
    "TWINVEC_OPEN_BROKER": "1",
}


class HostedValkey(Valkey):
    """A broker on a host, at its usual port; a replica of the one at an address, if `primary` is set at its start."""

    def __init__(self, folder: Path, log: Path, host: Host) -> None:
        super().__init__(folder, log, 6379)
        self.primary: str | None = None
        self.host = host

    @property
    def url(self) -> str:
        """By the host's name: where the others find it."""
        return f"redis://{self.host.name}:{self.port}/0"

    def start(self) -> None:
        with self.host.inside():
            super().start()

    def info(self) -> dict[str, Any]:
        """What it says of its part in replication."""
        with self.host.inside(), redis.Redis(port=self.port) as server:
            found: dict[str, Any] = server.info("replication")
        return found

    def _command(self) -> list[str | Path]:
        follow = [] if self.primary is None else ["--replicaof", f"{self.primary} {self.port}"]
        return [*super()._command(), "--bind", "0.0.0.0", "--protected-mode", "no", *follow]


class HostedPostgres(Postgres):
    """A database on a host, at its usual port; `url` is its socket's."""

    def __init__(self, folder: Path, log: Path, host: Host) -> None:
        super().__init__(folder, log)
        self.host = host

    def start(self) -> None:
        with self.host.inside():
            super().start()

    def _make(self) -> None:
        super()._make()
        with (self.folder / "postgresql.conf").open("a") as settings:
            settings.write("listen_addresses = '*'\n")
        with (self.folder / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {SUBNET}0/24 trust\nhost replication all {SUBNET}0/24 trust\n")

    def follow(self, primary: str) -> None:
        """Be a standby of the server at an address, and start."""
        self._own(self.folder)
        command = [str(postgres._binaries() / "pg_basebackup"), "-D", str(self.folder)]
        command += ["-h", primary, "-U", "postgres", "--write-recovery-conf", "--checkpoint=fast"]
        with self.host.inside():
            subprocess.run(command, check=True, capture_output=True, user=self.user, group=self.user, cwd="/")
        for copied in self.folder.glob(".s.PGSQL.*"):  # the primary's socket
            copied.unlink()
        self.start()

    def promote(self) -> None:
        """Have a standby take writes; returns once it does."""
        engine = connect(psycopg(self.url))
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_promote()"))
        engine.dispose()


class Hosts(Fleet):
    """A fleet on a network. Its client is a process on a host of its own: see `send`."""

    broker: HostedValkey
    database: HostedPostgres

    def __init__(self, *, settings: Mapping[str, str] | None = None, more: Sequence[str] = ()) -> None:
        super().__init__(CREW, settings={**SETTINGS, **(settings or {})})
        self.network = Network(*PLACES, *more)
        hosts = self.network.hosts
        self.broker = HostedValkey(self.broker.folder, self.broker.log, hosts["broker"])
        self.database = HostedPostgres(self.database.folder, self.database.log, hosts["database"])

    def __enter__(self) -> Self:
        self.network.__enter__()
        try:
            super().__enter__()
            self.injection.slow_down(SECONDS)
            problems = ask_doctor(self).problems
            assert not problems, f"doctor says of hosts that are well: {problems}"
        except BaseException as error:
            self.network.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.network.__exit__(kind, error, traceback)

    def environment(self, name: str) -> dict[str, str]:
        return super().environment(name) | {
            "TWINVEC_DATABASE_URL": self.remote_database,
            "TWINVEC_BROKER_URL": self.remote_broker,
        }

    @property
    def remote_database(self) -> str:
        """Where the other hosts find the database."""
        return "postgresql://postgres@database:5432/postgres"

    @property
    def remote_broker(self) -> str:
        """Where the other hosts find the broker."""
        return self.broker.url

    def send(self, key: str, count: int) -> "Sender":
        """Have the client's host send `noise(count)` to the collection `key`."""
        return Sender(self.remote_broker, key, count, self.network[CLIENT].before)

    def look_at(self, database: HostedPostgres) -> None:
        """Judge by another server's database from now on."""
        self.engine.dispose()
        self.database = database
        self.engine = connect(self.database_url)
        self.ledger = Ledger(self.engine, self.check)

    def before(self, name: str) -> Sequence[str]:
        return self.network[name].before


class Sender(threading.Thread):
    """An application on a host, started again under the same key until all is accepted."""

    def __init__(self, url: str, key: str, count: int, before: Sequence[str]) -> None:
        super().__init__(name=f"sender of {key}", daemon=True)
        self.failures = 0
        self._arguments = (url, key, count, CHUNK, key)
        self._before = before
        self.start()

    def run(self) -> None:
        while sender.start(*self._arguments, before=self._before).wait() != 0 and self.failures < 20:
            self.failures += 1

    def finish(self, result: Result, within: float = 180) -> None:
        """Wait until all is accepted, or note a problem."""
        self.join(within)
        result.require(not self.is_alive(), f"the client has not come back after {within:g} s")
        result.resubmissions += self.failures


F = TypeVar("F", bound=Hosts)


def running(shared: F | None, kind: Callable[[], F]) -> F | nullcontext[F]:
    """The fleet that runs already and that a case shares with others, or else one of its own."""
    return kind() if shared is None else nullcontext(shared)


def psycopg(url: str) -> str:
    """A database's URL for SQLAlchemy."""
    return url.replace("postgresql://", "postgresql+psycopg://")
