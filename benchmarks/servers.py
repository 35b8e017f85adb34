"""Fresh embedded servers, and workers on them, for one run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.place import Place
from benchmarks.processes import alone
from db.engine import connect, transact
from db.schema import migrate
from db.vectors.lifecycle import NewTower, register
from local.servers import Servers
from local.signals import Interrupts
from local.stack import Stack
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def ledger() -> Iterator[Place]:
    """Embedded servers of a run's own; they and all they stored are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder,
        Servers(Path(folder) / "servers", broker_port=0) as servers,
    ):
        settings = Settings(database_url=servers.database_url, broker_url=servers.broker_url)
        engine = connect(settings.database() or "")
        migrate(engine)
        tower = transact(engine, register, _new_tower()).id
        engine.dispose()
        yield Place(
            broker_url=servers.broker_url,
            database_url=settings.database() or "",
            tower=tower,
            tower_file=str(_tower()["file"]),
            folder=folder,
            workers={},
        )


@contextmanager
def everything() -> Iterator[Place]:
    """The same, and the workers that `twinvec up` starts, ready for work."""
    with ledger() as place, Interrupts() as interrupts:
        home = Path(place.folder) / "workers"
        stack = Stack(Settings(home=home, broker_url=place.broker_url, database_url=place.database_url))
        try:
            stack.start()
            stack.supervise_aside()
            noted = json.loads((home / "run.json").read_text())
            yield Place(**asdict(place) | {"workers": noted["workers"]})
        finally:
            stack.stop(interrupts, grace=5)


@cache
def _tower() -> dict[str, Any]:
    """A tower with its first weights: it computes what a trained one does. Its `file` and `fingerprint`."""
    folder = ROOT / ".twinvec" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return alone("tower", file=str(folder / "tower.keras"))


def _new_tower() -> NewTower:
    return NewTower(
        fingerprint=_tower()["fingerprint"],
        file=Path(_tower()["file"]).read_bytes(),
        recipe="notebook",
        settings={},
        seed=0,
        data_digest="",
        versions={},
        metrics={},
        history={},
        threshold=0.5,
    )
