"""Looking towers up. It must not change one: `lifecycle` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from db.bulk import fetch
from db.errors import NoTower
from db.states import EMBEDDED_UNDER, TowerStatus
from db.tables import Digit, Tower
from db.vectors import embeddings
from db.vectors.backfill import given_up
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES

_NONE_IS_LIVE = "no tower is live yet: train one with `twinvec train`"


@dataclass(frozen=True, kw_only=True)
class TowerStanding:
    """A tower, and how many vectors are stored under it and due. created_at: ISO 8601."""

    id: int
    fingerprint: str
    status: TowerStatus
    recipe: str
    seed: int
    metrics: dict[str, Any]
    threshold: float
    created_at: str
    embedded: int
    due: int


def live(session: Session) -> Tower:
    """The live tower, which answers queries. Raises NoTower."""
    tower = session.execute(select(Tower).where(Tower.status == TowerStatus.LIVE)).scalar()
    if tower is None:
        raise NoTower(_NONE_IS_LIVE)
    return tower


@dataclass(frozen=True, kw_only=True)
class Space:
    """The live tower as a search needs it.

    frame: None where it has none. threshold: the distance that splits pairs best into same and different. calibration:
    what else its distances mean, as a training measured it; None where it was trained before that.
    """

    tower: int
    fingerprint: str
    frame: Frame | None
    threshold: float
    calibration: dict[str, Any] | None


def searched(session: Session) -> Space:
    """The space that queries are answered in, the live tower's. Raises NoTower."""
    columns = f"id, fingerprint, {FRAMES.digest}, threshold, metrics -> 'calibration'"
    rows = fetch(session, f"SELECT {columns} FROM towers WHERE status = 'live'", prepare=True)
    if not rows:
        raise NoTower(_NONE_IS_LIVE)
    ((tower, fingerprint, digest, threshold, calibration),) = rows
    return Space(
        tower=tower,
        fingerprint=fingerprint,
        frame=FRAMES.known(session, tower, digest),
        threshold=threshold,
        calibration=calibration,
    )


def newest_started_by(session: Session, name: str) -> int | None:
    """The id of the newest tower that this started, by its lineage."""
    query = select(Tower.id).where(Tower.lineage["started_by"].astext == name).order_by(Tower.id.desc())
    return session.execute(query.limit(1)).scalar()


def with_file(session: Session, id: int) -> Tower:
    """A tower with its `.keras` file loaded, which is None once it is pruned."""
    return session.execute(select(Tower).where(Tower.id == id).options(undefer(Tower.file))).scalar_one()


def fingerprint_of(session: Session, id: int) -> str:
    """What a tower's weights are told by."""
    return session.execute(select(Tower.fingerprint).where(Tower.id == id)).scalar_one()


def all_of_them(session: Session) -> list[TowerStanding]:
    """Every tower, newest first, with how many vectors it has and how many are due."""
    digits = session.execute(select(func.count()).select_from(Digit)).scalar_one()
    towers = session.execute(select(Tower).order_by(Tower.id.desc())).scalars().all()
    return [_standing(session, tower, digits) for tower in towers]


def _standing(session: Session, tower: Tower, digits: int) -> TowerStanding:
    embedded = embeddings.count(session, tower.id)
    return TowerStanding(
        id=tower.id,
        fingerprint=tower.fingerprint,
        status=tower.status,
        recipe=tower.recipe,
        seed=tower.seed,
        metrics=tower.metrics,
        threshold=tower.threshold,
        created_at=tower.created_at.isoformat(),
        embedded=embedded,
        due=digits - embedded - given_up(session, tower.id) if tower.status in EMBEDDED_UNDER else 0,
    )
