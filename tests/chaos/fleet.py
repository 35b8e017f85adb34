"""Real processes on servers of their own, started again when they die, and the hands that hurt them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db.engine import connect, transact
from db.schema import migrate
from local.servers.postgres import Postgres
from local.servers.process import alive, ended, last_lines
from local.servers.valkey import Valkey
from tests.chaos.injected.sitecustomize import REFUSED
from tests.makers import trained
from twinvec_client import Callback, EmbedJob, Twinvec
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer

INJECTED = Path(__file__).with_name("injected")
ROOT = Path(__file__).parents[2]

SETTINGS = {"TWINVEC_LEASE": "3", "TWINVEC_SWEEP": "1", "TWINVEC_REPUBLISH_AFTER": "2"}  # faults resolve in seconds
CREW = {  # member -> the lanes it serves; `beat` is the clock
    "front": "query,control",
    "intake": "intake",
    "embedder-1": "embed,backfill",
    "embedder-2": "embed,backfill",
    "beat": "",
}
CHUNK = 64  # pictures, so that even a short case has batches enough to hurt
READY_WITHIN = 120.0  # seconds
AGAIN_AFTER = 0.1  # seconds from a death to the next start, as systemd's default


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
        self.faults: list[Fault] = []
        self.resubmissions = 0  # of a job whose client got no answer
        self._tower = tower
        self._injected = self.home / "chaos"
        self._names = {name: lanes for name, lanes in crew.items()}
        self._of_member = of_member or {}
        self.members: dict[str, Member] = {}
        self._ending = threading.Event()
        self._supervisor_error: BaseException | None = None
        self._watch = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    # --- life ---

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
        for folder in (self.home / "logs", self._injected / "armed", self._injected / "noted"):
            folder.mkdir(parents=True, exist_ok=True)
        self.broker.start()
        self.database.start()
        self.engine: Engine = connect(self.database_url)
        migrate(self.engine)
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

    def add(self, name: str, lanes: str = "", *, command: Sequence[str] | None = None, start: bool = True) -> "Member":
        """One more member: a worker on these lanes, or what `command` (the arguments of `python`) runs."""
        if command is None:
            command = ("-m", "cli", "worker", "--lanes", lanes, "--name", name) if lanes else ("-m", "cli", "beat")
        member = Member(name, command, self.home, self._environment(name))
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

    def check(self) -> None:
        """Raises where an injection has found no name to inject at, or the fleet's own supervisor has died."""
        if self._supervisor_error is not None:
            raise AssertionError("nobody looks after the members any more") from self._supervisor_error
        refused = self._injected / "refused"
        if refused.exists():
            raise AssertionError(f"the injection does not fit the code: {refused.read_text()}")

    def _environment(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TWINVEC_", "CHAOS_"))}
        return {
            **kept,
            **self.settings,
            "TWINVEC_HOME": str(self.home),
            "TWINVEC_BROKER_URL": self.broker.url,
            "TWINVEC_DATABASE_URL": self.database_url,
            "REMAP_SIGTERM": "SIGQUIT",
            "PYTHONPATH": str(INJECTED),
            "CHAOS_FOLDER": str(self._injected),
            "CHAOS_TOWER": self._tower or "stand-in",
            **self._of_member.get(name, {}),
        }

    def _supervise(self) -> None:
        """Start again whoever dies, as a service manager does, the remains of its pool ended first."""
        try:
            while not self._ending.wait(0.05):
                for member in list(self.members.values()):
                    member.look_after()
        except BaseException as error:
            self._supervisor_error = error
            raise

    # --- what is injected ---

    def arm(self, point: str, times: int) -> None:
        """Have processes exit at `point`, so many times in all.

        Points: after-decode and after-intake (a chunk is stored, its message not acknowledged); after-claim,
        after-tower, inside-finish (written, not committed), after-commit (not acknowledged); training-claimed,
        -under-way, -fitted, -registered (written, not committed) and -committed (not acknowledged).
        """
        unfinished = self._injected / "armed" / f".{point}"
        unfinished.write_text(str(times))
        unfinished.rename(unfinished.with_name(point))

    def noted(self, what: str) -> list["Note"]:
        """What injections noted: exits at a point by its name, `claims`, `segfault-tower`, `segfault-decoder`."""
        with suppress(FileNotFoundError):
            return [Note.read(line) for line in (self._injected / "noted" / what).read_text().splitlines()]
        return []

    def slow_down(self, seconds: float) -> None:
        """Have the stand-in tower take so long for each call."""
        (self._injected / "tower-seconds").write_text(str(seconds))

    # --- the client's side ---

    def client(self) -> Twinvec:
        """A client that is as impatient as the settings."""
        client = Twinvec(self.broker.url, answer_timeout=3)
        client.resend_after = 3
        client.outage = 120
        return client

    def embed(
        self,
        pictures: Mapping[str, Any],
        *,
        collection: str = "default",
        chunk: int = CHUNK,
        pace: Callable[[int], None] = lambda sent: None,
        on_finish: Callback | None = None,
    ) -> str:
        """Send pictures as an application does, sending again under the same key if no answer came; the job's id.

        chunk: pictures a chunk, and so a batch. pace: called before the nth picture is sent; it may wait.
        """
        key = str(uuid.uuid4())

        def stream() -> Iterator[tuple[str, Any]]:
            for at, item in enumerate(pictures.items()):
                pace(at)
                yield item

        def send() -> EmbedJob:
            return client.embed(stream(), collection=collection, idempotency_key=key, on_finish=on_finish)

        client = self.client()
        client.chunk = chunk
        for _ in range(10):
            try:
                return send().id
            except (NoAnswer, BrokerUnavailable, DatabaseUnavailable):
                self.resubmissions += 1
        return send().id

    def embedding(self, pictures: Mapping[str, Any], **more: Any) -> "Sending":
        """As `embed`, in a thread."""
        return Sending(lambda: self.embed(pictures, **more))

    # --- the ledger, looked into ---

    @property
    def database_url(self) -> str:
        return self.database.url.replace("postgresql://", "postgresql+psycopg://")

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        """What a query of the ledger gives, whatever is done to the database meanwhile."""
        deadline = time.monotonic() + 120
        while True:
            try:
                with self.engine.connect() as connection:
                    return list(connection.execute(text(query), parameters))
            except DBAPIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def one(self, query: str, **parameters: Any) -> Any:
        """The single value of a query."""
        return self.rows(query, **parameters)[0][0]

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.broker.url)

    def lane(self, name: str) -> str:
        """The key in Redis of a lane's messages."""
        return KEY_PREFIX + name

    def idle(self, name: str) -> bool:
        """Whether a member waits at the broker for its next message."""
        with self.redis() as broker:
            ports = {
                str(each.laddr.port) for process in self.members[name].family() for each in process.net_connections()
            }
            return any(
                client["cmd"] == "brpop" and client["flags"] == "b" and client["addr"].rpartition(":")[2] in ports
                for client in broker.client_list()
            )

    def done(self) -> int:
        """Digits embedded so far."""
        return int(self.one("SELECT coalesce(sum(embedded), 0) FROM batches"))

    def until(self, condition: Callable[[], Any], what: str, *, within: float = 60) -> Any:
        """Wait for a condition; fail, saying what did not come."""
        return until(condition, what, within=within, check=self.check)

    def settled(self, *jobs: str, within: float = 120) -> None:
        """Wait until every chunk of these jobs is accepted and no batch of any job is open."""
        query = """
            SELECT (SELECT count(*) FROM jobs WHERE kind = 'embed' AND cancelled_at IS NULL AND chunks IS NULL)
                + (SELECT count(*) FROM batches WHERE state IN ('queued', 'leased'))
                + :expected - (SELECT count(*) FROM jobs WHERE id = ANY(CAST(:jobs AS uuid[])))
        """
        self.until(
            lambda: not self.one(query, jobs=list(jobs), expected=len(set(jobs))),
            "the end of every batch",
            within=within,
        )

    # --- hands that hurt ---

    def kill(self, name: str, what: str = "tree") -> "Fault":
        """SIGKILL for a member: its `parent`, its pool `child`, or the whole `tree`, stopped first.

        Waits for what was killed to be gone, and notes which batches it held.
        """
        member = self.members[name]
        holders = member.holders()
        at = time.time()
        strike(member.pool() if what == "child" else [member.process()] if what == "parent" else member.family())
        held = (
            self.rows("SELECT id FROM batches WHERE state = 'leased' AND worker = ANY(:holders)", holders=holders)
            if holders
            else []
        )
        fault = Fault(f"{what} of {name}", at, [row.id for row in held], holders)
        self.faults.append(fault)
        if fault.held:
            threading.Thread(target=self._watch_rescue, args=(fault,), name="rescue", daemon=True).start()
        return fault

    def _watch_rescue(self, fault: "Fault") -> None:
        """Note when the last batch that the victim held is no longer its own."""
        query = "SELECT count(*) FROM batches WHERE id = ANY(:held) AND state = 'leased' AND worker = ANY(:holders)"
        while not self._ending.wait(0.1):
            if not self.one(query, held=fault.held, holders=fault.holders):
                fault.rescued = time.time()
                return

    def freeze(self, name: str) -> list[psutil.Process]:
        """SIGSTOP for a member and its pool; `thaw` them."""
        frozen = self.members[name].family()
        send(frozen, signal.SIGSTOP)
        return frozen

    def thaw(self, frozen: Sequence[psutil.Process]) -> None:
        send(frozen, signal.SIGCONT)

    def kill_broker(self, *, down: float = 0.0) -> "Fault":
        """SIGKILL for the broker; it is started again at the same port after `down` seconds."""
        fault = self.fault("broker")
        strike([process] if (process := self.broker.process()) else [])
        time.sleep(down)
        self.broker.start()
        return fault

    def flush_broker(self) -> "Fault":
        """Have the broker forget everything."""
        fault = self.fault("broker")
        with self.redis() as broker:
            broker.flushall()
        return fault

    def stop_database(self) -> "Fault":
        """Immediate stop: sessions are cut, and the next start recovers from the log."""
        fault = self.fault("database")
        self.database.stop(immediate=True)
        return fault

    def cut_connections(self) -> "Fault":
        """End every session of the members at the database."""
        fault = self.fault("connections")
        self.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'twinvec' AND pid <> pg_backend_pid()"
        )
        return fault

    def fault(self, what: str) -> "Fault":
        """Note that something was done, now."""
        fault = Fault(what, time.time())
        self.faults.append(fault)
        return fault


class Member:
    """A process with a session of its own, its output in a file, started again when it dies."""

    def __init__(self, name: str, command: Sequence[str], home: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = home / "logs" / f"{name}.log"
        self.starts = 0
        self._is_worker = "worker" in command
        self._ready = home / "chaos" / f"{name}.ready"
        self._command = [sys.executable, "-P", *command]
        self._environment = {**environment, "TWINVEC_READY_FILE": str(self._ready)}
        self._popen: subprocess.Popen[bytes] | None = None
        self._again_at: float | None = None
        self._lock = threading.Lock()
        self._ended = False

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1
        self._again_at = None

    def look_after(self) -> None:
        """Start it again if it died."""
        with self._lock:
            if self._ended or self._popen is None or self._popen.poll() is None:
                return
            if self._again_at is None:
                strike(self._remains())
                self._again_at = time.monotonic() + (3600 if self._popen.returncode == REFUSED else AGAIN_AFTER)
            elif time.monotonic() >= self._again_at:
                self.start()

    def end(self) -> None:
        """Kill it and all that it started, for good."""
        with self._lock:
            self._ended = True
            if self._popen is not None:
                strike([*self.family(), *self._remains()])
                self._popen.wait()

    def rest(self) -> None:
        """Kill it and leave it dead until `start`."""
        with self._lock:
            strike([*self.family(), *self._remains()])
            if self._popen is not None:
                self._popen.wait()
            self._popen = None
            self._ready.unlink(missing_ok=True)

    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def ready(self) -> bool:
        """Whether it runs and a pool process of it has told so since it was started."""
        return self.alive() and (not self._is_worker or "cli" not in self._command or self._ready.exists())

    def works(self) -> bool:
        """Whether it is ready and its pool has not died since."""
        return self.ready() and bool(self.pool())

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen is not None else 0

    def process(self) -> psutil.Process | None:
        try:
            return psutil.Process(self.pid) if self.alive() else None
        except psutil.NoSuchProcess:
            return None

    def pool(self) -> list[psutil.Process]:
        """Its living pool processes; not the helper that counts semaphores."""
        return [each for each in self.family()[1:] if alive(each) and not _is_tracker(each)]

    def family(self) -> list[psutil.Process]:
        """Its parent process first, then all below it."""
        if (parent := self.process()) is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [parent, *parent.children(recursive=True)]
        return []

    def holders(self) -> list[str]:
        """The names under which its processes hold leases."""
        return [f"{os.uname().nodename}:{process.pid}" for process in self.family()]

    def _remains(self) -> list[psutil.Process]:
        """Whatever still runs in its session."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if self.pid and os.getsid(process.pid) == self.pid and process.pid != self.pid:
                    found.append(process)
        return found


@dataclass
class Fault:
    """Something that was done to the fleet, when (seconds since 1970), and the batches that its victim held.

    holders: the names under which the victim held them. rescued: when the last of them was free for others.
    """

    what: str
    at: float
    held: list[int] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    rescued: float | None = None


@dataclass(frozen=True)
class Note:
    """A line that an injection left."""

    at: float  # seconds since 1970
    pid: int
    rest: str

    @classmethod
    def read(cls, line: str) -> Self:
        at, pid, *rest = line.split(" ", 2)
        return cls(float(at), int(pid), rest[0] if rest else "")


class Sending(threading.Thread):
    """A client that sends in a thread of its own."""

    def __init__(self, send: Callable[[], str]) -> None:
        super().__init__(name="client", daemon=True)
        self._send = send
        self.error: BaseException | None = None
        self.job = ""
        self.start()

    def run(self) -> None:
        try:
            self.job = self._send()
        except BaseException as error:
            self.error = error

    def result(self, within: float = 120) -> str:
        """The job's id, once all is accepted. Raises what the client raised."""
        self.join(within)
        assert not self.is_alive(), f"the client has not come back after {within:g} s"
        if self.error is not None:
            raise self.error
        return self.job


def register(engine: Engine, *, real: bool = False) -> int:
    """Register a tower in a fresh ledger; its id. It is live at once."""
    from db.vectors import lifecycle  # noqa: PLC0415  # imported before, by whoever migrates

    tower = replace(trained("stand-in"), **(real_tower() if real else {}))
    return int(transact(engine, lifecycle.register, tower).id)


def real_tower(seed: int = 1) -> dict[str, Any]:
    """What is special of the notebook's tower with seeded weights: as costly as a trained one."""
    from training.model.siamese import build_network  # noqa: PLC0415  # TensorFlow, for two cases only
    from training.model.storage import fingerprint, save  # noqa: PLC0415
    from training.recipes import RECIPES  # noqa: PLC0415

    tower = build_network(RECIPES["notebook"], seed=seed)
    return {"fingerprint": fingerprint(tower), "file": save(tower)}


def strike(processes: Iterable[psutil.Process | None]) -> None:
    """Stop them all, then kill them all, so that none sees another one die; and wait for their end."""
    victims = [process for process in processes if process is not None]
    send(victims, signal.SIGSTOP)
    send(victims, signal.SIGKILL)
    for process in victims:
        ended(process, 10)


def send(processes: Iterable[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def until(condition: Callable[[], Any], what: str, *, within: float, check: Callable[[], None] = lambda: None) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        check()
        assert time.monotonic() < deadline, f"{what} did not come within {within:g} s"
        time.sleep(0.05)
    return value


@contextmanager
def timed(result: Any) -> Iterator[None]:
    """Note in a result how long the block took."""
    start = time.monotonic()
    try:
        yield
    finally:
        result.seconds = time.monotonic() - start


def _is_tracker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "_tracker import" in " ".join(process.cmdline())
    return False
