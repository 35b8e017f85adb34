"""The two embedded servers of one home folder, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from local.servers.logs import rotate_if_large
from local.servers.postgres import Postgres
from local.servers.process import EmbeddedError
from local.servers.valkey import Valkey
from twinvec_client.contract.broker import PREFIX


class Servers:
    """The embedded broker and database that keep their data in `home`.

    While started, `home` is held by this process: a second one is refused. The servers themselves outlive a
    killed holder, and the next one goes on with them. As a context manager it starts them, and stops them.

    broker_port: 0 takes a free one. broker, database: whether to run each. guarded: whether the broker asks for a
    password, which is in its URL. prefix: of the keys that the password guards.

        with Servers(Path(".twinvec"), broker_port=0) as servers:
            servers.broker_url  # redis://twinvec:PASSWORD@127.0.0.1:34621/0
            servers.database_url  # postgresql://postgres@/postgres?host=...
    """

    def __init__(
        self,
        home: Path,
        broker_port: int = 0,
        *,
        broker: bool = True,
        database: bool = True,
        guarded: bool = True,
        prefix: str = PREFIX,
    ) -> None:
        self.home = home.resolve()
        self._valkey = Valkey(
            self.home / "valkey", self.home / "logs" / "valkey.log", broker_port, guarded=guarded, prefix=prefix
        )
        self._postgres = Postgres(self.home / "postgres", self.home / "logs" / "postgres.log")
        self._wanted = [server for server, asked in ((self._valkey, broker), (self._postgres, database)) if asked]
        self._lock: IO[str] | None = None

    @property
    def broker_url(self) -> str:
        """For Celery and redis, once started."""
        return self._valkey.url

    @property
    def database_url(self) -> str:
        """For psycopg and SQLAlchemy, once started."""
        return self._postgres.url

    def port_is_taken(self) -> bool:
        """Whether another program has the broker's port, so that `start` would be refused."""
        return self._valkey.is_shut_out()

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Hold the home and start what was asked for, or go on with what still runs there.

        meanwhile: called once the broker answers, and before the database does, which takes seconds the first time.

        Raises EmbeddedError: the home cannot be written or is held by another process, the port is taken, or
        a server does not come up. Nothing that this call started is left running then.
        """
        self._hold()
        try:
            for server in self._wanted:
                rotate_if_large(server.log)
                if server is self._postgres:
                    meanwhile()
                server.start()
        except OSError as error:
            self.stop()
            raise EmbeddedError(_unwritable(self.home, error)) from error
        except BaseException:
            self.stop()
            raise

    def stop(self, *, immediate: bool = False) -> None:
        """Stop both servers, whichever process started them, and release the home. The data stays.

        immediate: at once, without the last writes; what was committed is still there at the next start.
        """
        self._valkey.stop(immediate=immediate)
        self._postgres.stop(immediate=immediate)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def revive(self) -> list[str]:
        """Start again, in the same place, what has died since the start; says what. Cheap where all is well.

        Raises EmbeddedError.
        """
        died = [server for server in self._wanted if not server.running()]
        for server in died:
            server.start()
        return [server.log.stem for server in died]

    def changed(self) -> list[str]:
        """What starting them changed outside of what they keep, in sentences; each is told once."""
        told = [*self._valkey.changed, *self._postgres.changed]
        self._valkey.changed.clear()
        self._postgres.changed.clear()
        return told

    def processes(self) -> list[psutil.Process]:
        """The servers that run in this home, whichever process started them."""
        return [process for process in (self._valkey.process(), self._postgres.process()) if process is not None]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _hold(self) -> None:
        try:
            (self.home / "logs").mkdir(mode=0o750, parents=True, exist_ok=True)  # keys of callers stand in them
            lock = (self.home / "lock").open("a+")  # kept open: the kernel lets go of it when this process dies
        except OSError as error:
            raise EmbeddedError(_unwritable(self.home, error)) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise EmbeddedError(
                f"{self.home} is already in use by process {holder}: stop it with `twinvec down`, "
                f"or set TWINVEC_HOME to another folder"
            ) from None
        self._lock = lock
        with suppress(OSError):  # no room for a pid: what runs here can still be held, to be stopped
            lock.truncate(0)
            os.write(lock.fileno(), str(os.getpid()).encode())


def holder_of(home: Path) -> int | None:
    """The pid that the lock on a home was noted with, while it is held; None where nobody holds it."""
    try:
        with (home / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
    except (OSError, ValueError):
        return None
    return None


def _unwritable(home: Path, error: OSError) -> str:
    return f"cannot write to {home}: {error.strerror or error}; set TWINVEC_HOME to a folder of your own"
