"""The supervisor of one machine: servers, tables and workers, started together and stopped together.

It must not know who called it, nor print: what an operator may want to know goes to `say`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psutil
import redis
from pydantic import SecretStr
from sqlalchemy import Engine

from db.engine import connect
from db.faults import Fault
from db.preflight import look, server_faults, table_faults, version_faults
from db.schema import migrate
from local.child import LOADS_ALONE, SERVICES, Child, Forks, pool_processes
from local.errors import GRACE, READY_WITHIN, StackError
from local.ports import HOST
from local.processes import MARK, end, find_marked
from local.servers import EmbeddedError, Servers
from local.servers.logs import rotate_if_large
from local.signals import Interrupts
from twinvec_client.contract.broker import PREFIX
from worker import installation
from worker.forkserver import AVAILABLE
from worker.preflight import backend_faults, broker_faults, home_faults, insist
from worker.runfile import RunFile
from worker.settings import Settings

TARGETS = "prometheus.json"  # in the folder `run`
EVERYWHERE = ("0.0.0.0", "::")  # nothing listens there by this
_POLL = 0.2  # seconds between two looks at the processes
_SERVERS_EVERY = 25  # polls; the logs as well


class Stack:
    """Everything that `twinvec up` runs, held by this process.

    A server whose URL is set in the environment is used as it is; the others are started in the home folder.
    broker_port: of the embedded broker; 0 takes a free one, None the one of the settings.
    say: is given a line whenever something happened that the operator may want to know.
    """

    def __init__(
        self, settings: Settings, *, broker_port: int | None = None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.home = settings.home
        self._run_file = settings.run_file
        self._settings, self._say = settings, say
        self._prefix = settings.prefix or PREFIX
        self._servers = Servers(
            self.home,
            settings.broker_port if broker_port is None else broker_port,
            broker=settings.broker_url is None,
            database=settings.database_url is None,
            prefix=self._prefix,
        )
        self._children: list[Child] = []
        self._forks: Forks | None = None
        self._started = False
        self._noted = True  # whether `run.json` was written as it is now
        self._ending = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def broker_url(self) -> str:
        return self._settings.broker() if self._settings.broker_url is not None else self._servers.broker_url

    @property
    def database_url(self) -> str:
        """As the settings read it: `postgresql://`."""
        url = self._settings.database_url
        return url.get_secret_value() if url is not None else self._servers.database_url

    @contextmanager
    def database(self) -> Iterator[Engine]:
        """The database, to look into it."""
        update = {"database_url": SecretStr(self.database_url)}
        engine = connect(self._settings.model_copy(update=update).database() or "")
        try:
            yield engine
        finally:
            engine.dispose()

    def start(self) -> None:
        """Return when every worker is ready.

        Raises OpenBroker, StartRefused, EmbeddedError, StackError, or what the database says.
        """
        insist([*home_faults(self.home), *backend_faults()])
        if self._settings.broker_url is not None:
            self._settings.guarded_broker()
        self._servers.start(meanwhile=self._load_children)
        self._started = True
        for change in self._servers.changed():
            self._say(change)
        if not self._children:
            end(find_marked(self.home), grace=GRACE)  # those of a supervisor that was killed
        self._write_run_file(ready=False)
        self._check_broker()
        if not self._children:
            self._load_children()
        with self.database() as engine:
            self._prepare(engine)
        self._take_lanes()
        for child in self._children:
            if child.name in LOADS_ALONE:
                child.proceed()
            else:
                child.start()
        self._write_run_file(ready=False)
        self._await_ready()
        self._write_run_file(ready=True)

    def _load_children(self) -> None:
        """Have the workers load their code while the database starts, unless others are to be ended first."""
        if find_marked(self.home):
            return
        self._started = True
        first = self._settings.http_port
        environment = self._environment()
        self._forks = Forks(self.home, environment) if AVAILABLE else None
        self._children = [
            Child(
                name,
                self.home,
                environment,
                http_port=first + at if first else 0,
                forks=None if self._forks is None or name in LOADS_ALONE else self._forks.server,
            )
            for at, name in enumerate(SERVICES)
        ]
        for child in self._children:
            if child.name in LOADS_ALONE:
                child.start(wait=True)

    def supervise(self) -> None:
        """Restart what dies, until `stop`. A signal's KeyboardInterrupt ends it too."""
        polls = 0
        while not self._ending.wait(_POLL):
            polls += 1
            lines = self._check_servers_and_logs() if polls % _SERVERS_EVERY == 0 else []
            lines += [line for child in self._children if (line := child.restart_if_dead()) is not None]
            for line in lines:
                self._tell(line)
            if lines or (polls % _SERVERS_EVERY == 0 and not self._is_noted()):
                self._note_while_running()

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # what it is written to may be full, or gone
            self._say(line)

    def _is_noted(self) -> bool:
        """Whether `run.json` says what runs; somebody may have deleted it."""
        return self._noted and self._run_file.exists()

    def _note_while_running(self) -> None:
        """Commands need `run.json`, the stack does not: where there is no room for a new one, the old one stays."""
        try:
            self._write_run_file(ready=True)
        except OSError as error:
            if self._noted:
                self._tell(f"cannot write {self._run_file}: {error.strerror or error}; tried again until it can")
            self._noted = False
        else:
            self._noted = True

    def supervise_aside(self) -> None:
        """Supervise in a thread, so that the caller can work with the stack."""
        self._watch = threading.Thread(target=self.supervise, name="supervisor", daemon=True)
        self._watch.start()

    def stop(self, interrupts: Interrupts, *, grace: float = GRACE) -> None:
        """Stop workers, then servers; nothing is left running, and the data stays. A signal stops the waiting.

        grace: seconds that workers have for what they are doing; what they do not finish is done after the next start.
        """
        interrupts.ending()
        if not self._started:
            return
        self._ending.set()
        if self._watch is not None:
            self._watch.join()
        if self._forks is not None:
            self._forks.end()
        end(find_marked(self.home), grace=grace, immediate=lambda: interrupts.immediate)
        for child in self._children:
            child.reap()
        self._servers.stop(immediate=interrupts.immediate)
        self._run_file.unlink(missing_ok=True)

    def _check_broker(self) -> None:
        """Raises StackError where nothing answers: workers would try for ever."""
        try:
            self._warn_of(broker_faults(self.broker_url))
        except (redis.RedisError, OSError, ValueError) as error:
            said = str(error).rstrip(".")
            host = urlsplit(self.broker_url).hostname
            raise StackError(f"no broker at {host} ({said}): check TWINVEC_BROKER_URL") from error

    def _prepare(self, engine: Engine) -> None:
        """Migrate the database, if it will do for all that is started here."""
        with engine.connect() as connection:
            self._warn_of(server_faults(look(connection), processes=pool_processes(self._settings)))
            self._warn_of(version_faults(connection, migrating=True))
        migrate(engine)
        with engine.connect() as connection:
            self._warn_of(table_faults(connection))

    def _take_lanes(self) -> None:
        """Have the broker's lanes be this installation's: its own broker's in any case, another's if they are free."""
        update = {"database_url": SecretStr(self.database_url)}
        own_broker = self._settings.broker_url is None
        settings = self._settings.model_copy(update=update)
        self._warn_of(installation.faults(self.broker_url, settings, claiming=True, by_force=own_broker))

    def _warn_of(self, faults: Iterable[Fault]) -> None:
        for fault in insist(faults):
            self._say(f"warning: {fault}")

    def _check_servers_and_logs(self) -> list[str]:
        for log in (self.home / "logs").glob("*.log"):
            with suppress(OSError):  # a full disk, for instance: the stack works on
                rotate_if_large(log)
        return self._revive_servers()

    def _revive_servers(self) -> list[str]:
        try:
            revived = [f"{name} had died; restarted" for name in self._servers.revive()]
        except EmbeddedError as error:  # its port may be free again at the next look
            return [str(error)]
        except OSError as error:
            return [f"a server cannot be started: {error.strerror or error}"]
        return [*self._servers.changed(), *revived]

    def _environment(self) -> dict[str, str]:
        return {
            MARK: str(self.home),
            "TWINVEC_HOME": str(self.home),
            "TWINVEC_BROKER_URL": self.broker_url,
            "TWINVEC_DATABASE_URL": self.database_url,
            "TWINVEC_PREFIX": self._prefix,
        }

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while waiting := [child for child in self._children if not child.ready()]:
            for child in self._children:
                how = child.died()
                if how is not None and child.lost_port():
                    child.start()
                elif (how := how or child.failed()) is not None:
                    raise StackError(f"{how} (all of it is in {child.log})")
            if time.monotonic() > deadline:
                slow = waiting[0]
                raise StackError(f"{slow.name} is not ready after {READY_WITHIN:g} s; see {slow.log}")
            time.sleep(0.05)

    def _write_run_file(self, *, ready: bool) -> None:
        RunFile(
            broker_url=self.broker_url,
            database_url=self.database_url,
            supervisor=os.getpid(),
            created=psutil.Process().create_time(),
            ready=ready,
            workers={child.name: child.pid for child in self._children if child.pid},
            http={child.name: f"http://{self._http_place(child)}" for child in self._children},
            prefix=self._prefix,
        ).write(self._run_file)
        self._write_targets()

    def _write_targets(self) -> None:
        """Where Prometheus finds the figures, in the form of its `file_sd_configs`, which it reads again by itself."""
        targets = [{"targets": [self._http_place(child)], "labels": {"worker": child.name}} for child in self._children]
        path = self.home / "run" / TARGETS
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{TARGETS}.unfinished")
        unfinished.write_text(json.dumps(targets, indent=1))
        unfinished.replace(path)

    def _http_place(self, child: Child) -> str:
        host = self._settings.http_host
        return f"{HOST if host in EVERYWHERE else host}:{child.http_port}"
