"""A tower's file, measured and stored as a candidate. Importing this loads TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cli.connect import who
from cli.errors import CommandError
from cli.inputs.digits import digits_to_show
from cli.ledger import ledger
from db.engine import transact, transact_long
from db.states import EMBEDDED_UNDER, TowerStatus
from db.tables import Tower
from db.vectors import lifecycle
from db.vectors.frame import Frame
from db.vectors.lifecycle import NewTower
from training.errors import TowerError
from training.fit.given import given
from training.model.archive import MAX_FILE_BYTES
from worker.settings import Settings


@dataclass(frozen=True)
class Registered:
    """A tower as it stands now. new: whether its weights were not registered, or not in use any more."""

    id: int
    fingerprint: str
    status: TowerStatus
    metrics: dict[str, Any]
    new: bool


def register_file(settings: Settings, path: Path) -> Registered:
    """Raises CommandError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CommandError(f"{path} is too large: a tower's file has {MAX_FILE_BYTES:,} bytes at most")
        file = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    with ledger(settings) as engine:
        data = digits_to_show(settings, engine, [])
        if data is None:
            raise CommandError("there are no digits to measure it on: set TWINVEC_DATA, or store some with labels")
        try:
            trained = given(file, data)
        except TowerError as error:
            raise CommandError(f"{path}: {error}") from error
        known = transact(engine, _in_use, trained.fingerprint)
        if known is not None:
            return known
        frame = Frame.fit(trained.vectors)
        new = NewTower(
            fingerprint=trained.fingerprint,
            file=trained.file,
            recipe=trained.recipe,
            settings=trained.settings,
            seed=trained.seed,
            data_digest=trained.data_digest,
            versions=trained.versions,
            metrics=trained.metrics | {"search": frame.pruning(trained.vectors)._asdict()},
            history=trained.history,
            threshold=trained.threshold,
            frame=frame.to_bytes(),
            gate=trained.gate.to_bytes(),
            lineage={
                "data": "file",
                "source": f"unknown: it came as {path.name}, and was measured on {data.source}",
                "code": version("twinvec"),
                "libraries": trained.versions,
                "started_by": who(),
            },
        )
        return transact_long(engine, _register, new)


def _in_use(session: Session, fingerprint: str) -> Registered | None:
    """The tower of these weights, where it is one that digits are embedded under."""
    tower = session.execute(select(Tower).where(Tower.fingerprint == fingerprint)).scalar()
    return None if tower is None or tower.status not in EMBEDDED_UNDER else _registered(tower, new=False)


def _register(session: Session, new: NewTower) -> Registered:
    return _registered(lifecycle.register(session, new), new=True)


def _registered(tower: Tower, *, new: bool) -> Registered:
    return Registered(tower.id, tower.fingerprint, tower.status, tower.metrics, new)
