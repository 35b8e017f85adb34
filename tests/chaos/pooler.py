"""A PgBouncer before a database: it gives each transaction any of its few sessions."""

import shutil
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from local.ports import HOST, free_port
from local.servers.postgres import Postgres
from local.servers.process import await_ready, spawn
from tests.chaos.member import strike

SESSIONS = 3
SETTINGS = """
[databases]
postgres = host={sockets} port=5432 dbname=postgres user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
"""


class NoPooler(Exception):
    """There is no PgBouncer on this machine. The message says what to install."""


class Pooler:
    """One that listens on a free port of 127.0.0.1. folder: for its settings."""

    def __init__(self, folder: Path, database: Postgres) -> None:
        binary = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if binary is None:
            raise NoPooler("`pgbouncer` is missing: install it (Debian: apt-get install pgbouncer)")
        self.port = free_port()
        self._binary, self._folder, self._database = binary, folder, database
        self._log = folder / "pgbouncer.log"
        self._process: psutil.Process | None = None

    @property
    def url(self) -> str:
        """What workers are given."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres?pooler=transaction"

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(sockets=self._database._sockets(), host=HOST, port=self.port, sessions=SESSIONS)
        )
        # As the user that the database's folder admits.
        self._process = server = spawn(
            [self._binary, settings], folder=self._folder, log=self._log, user=self._database.user
        )
        await_ready(server, self._answers, seconds=30, log=self._log)

    def kill(self) -> None:
        strike([self._process])

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False
