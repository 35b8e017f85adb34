"""Fresh embedded servers, and workers on them, for one run."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.place import Place
from benchmarks.processes import alone
from db import locks
from db.engine import connect, transact
from db.schema import migrate
from db.vectors.lifecycle import NewTower, register
from local.servers import Servers
from local.signals import Interrupts
from local.stack import Stack
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def ledger(recipe: str | None = None, *, framed: bool = True) -> Iterator[Place]:
    """Embedded servers of a run's own, and a live tower; they and all they stored are gone afterwards.

    recipe: the tower is trained by it, once on this machine. Else it has its first weights. framed: whether it has a
    frame, and its vectors are placed.
    """
    with (
        Interrupts(),  # a request to end stops the servers, too
        tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder,
        Servers(Path(folder) / "servers", broker_port=0) as servers,
    ):
        database_url = Settings(database_url=servers.database_url, broker_url=servers.broker_url).database() or ""
        yield stand(database_url, servers.broker_url, folder, recipe, framed=framed)


def stand(database_url: str, broker_url: str, folder: str, recipe: str | None = None, *, framed: bool = True) -> Place:
    """Tables in a fresh database, and a live tower as `ledger` has it."""
    tower = _tower(recipe)
    engine = connect(database_url)
    migrate(engine)
    registered = transact(engine, register, _new_tower(recipe, tower, framed=framed)).id
    engine.dispose()
    return Place(
        broker_url=broker_url,
        database_url=database_url,
        tower=registered,
        tower_file=tower["file"],
        folder=folder,
        workers={},
    )


@contextmanager
def everything(recipe: str | None = None, *, framed: bool = True) -> Iterator[Place]:
    """The same, and the workers that `twinvec up` starts, ready for work."""
    with ledger(recipe, framed=framed) as place, Interrupts() as interrupts:
        home = Path(place.folder) / "workers"
        stack = Stack(Settings(home=home, broker_url=place.broker_url, database_url=place.database_url))
        try:
            stack.start()
            stack.supervise_aside()
            noted = json.loads((home / "run.json").read_text())
            yield Place(**asdict(place) | {"workers": noted["workers"]})
        finally:
            stack.stop(interrupts, grace=5)


@contextmanager
def unsearched() -> Iterator[Place]:
    """The same, with a tower that has no frame and gets none: no sweep runs meanwhile."""
    with everything(framed=False) as place, place.engine() as engine, Session(engine) as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        while not locks.try_sweep(session):
            time.sleep(0.1)  # until a sweep that runs has ended
        yield place
        if session.execute(text("SELECT count(*) FROM towers WHERE frame IS NOT NULL")).scalar():
            sys.exit("the tower got a frame while it should have had none")


@cache
def _tower(recipe: str | None) -> dict[str, Any]:
    """A tower's `file` and `fingerprint`, and the file of its `frame`. A trained one is kept for later runs."""
    folder = ROOT / ".twinvec" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return alone("tower", file=str(folder / f"{recipe or 'tower'}.keras"), recipe=recipe)


def _new_tower(recipe: str | None, tower: dict[str, Any], *, framed: bool) -> NewTower:
    return NewTower(
        fingerprint=tower["fingerprint"],
        file=Path(tower["file"]).read_bytes(),
        recipe=recipe or "notebook",
        settings={},
        seed=0,
        data_digest="",
        versions={},
        metrics={},
        history={},
        threshold=0.5,
        frame=Path(tower["frame"]).read_bytes() if framed else None,
    )
