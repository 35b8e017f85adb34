"""The signs of life of one pool process, noted in a file that its main process reads: that it runs, since when it works
on a task, and when the database last answered it. It must not know what follows from them.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db.engine import transact_once
from db.errors import first_line
from worker.runtime import Runtime
from worker.settings import NoDatabase

log = logging.getLogger(__name__)

PREFIX = "pulse-"  # of the files, before the process's id
EVERY = 2.0  # seconds between two notes
ASKED_AFTER = 5.0  # seconds without an answer of the database, after which it is asked
_FORM = struct.Struct("<5d")


class Signs(NamedTuple):
    """By `time.monotonic()`, which all processes of a machine share; 0: never, or not now."""

    noted: float  # when this was noted
    warm: float  # since when all is loaded that its lanes need
    answered: float  # when the database last answered
    busy: float  # since when it works on a task
    until: float  # when that task's limit of time is over

    @classmethod
    def read(cls, file: Path) -> Signs | None:
        """None where it is not written yet."""
        with suppress(OSError, struct.error):
            return cls(*_FORM.unpack(file.read_bytes()))
        return None

    def write(self, descriptor: int) -> None:
        os.pwrite(descriptor, _FORM.pack(*self), 0)


class Heartbeat:
    """Notes them from a thread, and asks the database from another one, which may have to wait for it."""

    def __init__(self, folder: Path, runtime: Callable[[], Runtime], also: Callable[[], None] = lambda: None) -> None:
        self._file = os.open(folder / f"{PREFIX}{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._runtime, self._also = runtime, also
        self._warm = self._busy = self._until = self._answered = 0.0
        self._silent = False

    def start(self) -> None:
        for work in (self._note, self._ask):
            threading.Thread(target=self._for_ever, args=(work,), name="heartbeat", daemon=True).start()

    def warmed_up(self) -> None:
        """All is loaded: the towers have answered, where the lanes need any."""
        self._warm = time.monotonic()
        self._note()

    def begin(self, limit: float) -> None:
        """A task begins. limit: seconds, after which its process is ended."""
        self._busy = time.monotonic()
        self._until = self._busy + limit
        self._note()

    def end(self) -> None:
        """The task has ended."""
        self._busy = self._until = 0.0
        self._note()

    def _note(self) -> None:
        Signs(time.monotonic(), self._warm, self._answered, self._busy, self._until).write(self._file)

    def _ask(self) -> None:
        """Ask the database, unless the work itself was answered lately."""
        try:
            runtime = self._runtime()
            self._answered = max(self._answered, runtime.answered)
            if time.monotonic() - self._answered > ASKED_AFTER:
                transact_once(runtime.engine, ask_database)
                self._answered = time.monotonic()
        except (SQLAlchemyError, NoDatabase, OSError) as error:
            if not self._silent:
                log.warning("the database does not answer: %s", first_line(error))
            self._silent = True
        else:
            self._silent = False
        self._also()

    def _for_ever(self, work: Callable[[], None]) -> None:
        stop = threading.Event()
        while True:
            try:
                work()
            except Exception:  # a sign that is missing is a sign
                log.exception("could not note a sign of life")
            stop.wait(EVERY)


def ask_database(session: Session) -> None:
    """Read a little of what all work begins with. Raises SQLAlchemyError."""
    session.execute(text("SELECT 1 FROM batches LIMIT 1"))
