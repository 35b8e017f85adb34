"""Looking towers up. It must not change one: `lifecycle` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, undefer

from db.bulk import fetch, fetch_each
from db.errors import NoTower, TowerNotLive
from db.states import EMBEDDED_UNDER, TowerStatus
from db.tables import Digit, Tower
from db.vectors import embeddings
from db.vectors.backfill import given_up
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES, digest_of

_STANDING = (TowerStatus.LIVE, TowerStatus.PREVIOUS)
_NONE_IS_LIVE = "no tower is live yet: train one with `twinvec train`"


def is_maintained() -> ColumnElement[bool]:
    """Whether new digits get a vector under a tower: the live one, the candidate, and a previous one that is kept
    ready to go live again."""
    return or_(Tower.status.in_(EMBEDDED_UNDER), and_(Tower.status == TowerStatus.PREVIOUS, Tower.maintained))


MAINTAINED = "(towers.status IN ('live', 'candidate') OR towers.status = 'previous' AND towers.maintained)"  # the same

# What `space_of` reads of those that stand.
SEARCHED = f"""
    SELECT status, verdict IS NOT NULL, id, fingerprint, {FRAMES.digest}, threshold, metrics -> 'calibration',
           {digest_of("gate")}
    FROM towers WHERE status IN ('live', 'candidate')
"""


@dataclass(frozen=True, kw_only=True)
class TowerStanding:
    """A tower, and how many vectors are stored under it and due. verdict: as `db.vectors.verdict` writes it; None where
    it was not judged. created_at, live_from, live_until (the last time): ISO 8601."""

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
    verdict: dict[str, Any] | None
    live_from: str | None
    live_until: str | None
    lineage: dict[str, Any] | None


def live(session: Session) -> Tower:
    """The live tower, which answers queries. Raises NoTower."""
    tower = session.execute(select(Tower).where(Tower.status == TowerStatus.LIVE)).scalar()
    if tower is None:
        raise NoTower(_NONE_IS_LIVE)
    return tower


@dataclass(frozen=True, kw_only=True)
class Space:
    """A tower as a search needs it.

    frame: None where it has none. threshold: the distance that splits pairs best into same and different. calibration:
    what else its distances mean, as a training measured it; None where it was trained before that. gate: the digest of
    its gate; None where it has none. candidate: the id of the tower that may go live next.
    """

    tower: int
    fingerprint: str
    frame: Frame | None
    threshold: float
    calibration: dict[str, Any] | None
    gate: bytes | None
    candidate: int | None = None


def searched(session: Session, named: str | None = None) -> Space:
    """The space that queries are answered in: the live tower's, or that of the tower with a fingerprint, while it
    stands: the previous one, or the candidate once nothing is missing under it. Raises NoTower, TowerNotLive."""
    return space_of(session, fetch(session, f"{SEARCHED} OR fingerprint = %s", (named,), prepare=True), named)


def space_of(session: Session, found: Sequence[tuple[Any, ...]], named: str | None = None) -> Space:
    """As `searched`, of rows of `SEARCHED`."""
    rows = {row[3]: row for row in found}
    live = next((row[3] for row in rows.values() if row[0] == TowerStatus.LIVE), None)
    if live is None:
        raise NoTower(_NONE_IS_LIVE)
    meant = live if named is None else named
    status, judged, *of_space = rows.get(meant, (None, False))
    if status not in _STANDING and not (status == TowerStatus.CANDIDATE and judged):
        raise TowerNotLive(meant, live, status)
    tower, fingerprint, digest, threshold, calibration, gate = of_space
    return Space(
        tower=tower,
        fingerprint=fingerprint,
        frame=FRAMES.known(session, tower, digest),
        threshold=threshold,
        calibration=calibration,
        gate=gate,
        candidate=next((row[2] for row in rows.values() if row[0] == TowerStatus.CANDIDATE), None),
    )


def newest_started_by(session: Session, name: str) -> int | None:
    """The id of the newest tower that this started, by its lineage."""
    query = select(Tower.id).where(Tower.lineage["started_by"].astext == name).order_by(Tower.id.desc())
    return session.execute(query.limit(1)).scalar()


def with_file(session: Session, id: int) -> Tower:
    """A tower with its `.keras` file loaded, which is None once it is pruned."""
    return session.execute(select(Tower).where(Tower.id == id).options(undefer(Tower.file))).scalar_one()


def count_vectors(session: Session, id: int) -> int:
    """How many digits have a vector under a tower."""
    return embeddings.count(session, id)


def status_of(session: Session, id: int) -> TowerStatus:
    """Where a tower is in its life."""
    return session.execute(select(Tower.status).where(Tower.id == id)).scalar_one()


def fingerprint_of(session: Session, id: int, *, ends: bool = False) -> str:
    """What a tower's weights are told by. ends: whether the transaction is committed with the question."""
    ((found,),) = fetch_each(session, [("SELECT fingerprint FROM towers WHERE id = %s", (id,))], ends=ends)
    return str(found[0])


def all_of_them(session: Session) -> list[TowerStanding]:
    """Every tower, newest first, with how many vectors it has and how many are due."""
    digits = session.execute(select(func.count()).select_from(Digit)).scalar_one()
    towers = session.execute(select(Tower).order_by(Tower.id.desc())).scalars().all()
    return [_standing(session, tower, digits) for tower in towers]


def _is_embedded_under(tower: Tower) -> bool:
    return tower.status in EMBEDDED_UNDER or tower.maintained


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
        due=digits - embedded - given_up(session, tower.id) if _is_embedded_under(tower) else 0,
        verdict=tower.verdict,
        live_from=None if tower.live_from is None else tower.live_from.isoformat(),
        live_until=None if tower.live_until is None else tower.live_until.isoformat(),
        lineage=tower.lineage or {"digest": tower.data_digest, "libraries": tower.versions},
    )
