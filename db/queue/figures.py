"""What the ledger says of the whole installation at one moment, in a few numbers. It must not know who watches them.

Everything here is read from what is open, or by an index: it costs as much in a large store as in a small one.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.bulk import fetch
from db.states import BatchState, JobKind, TowerStatus
from db.tables import Batch, Drift, Tower
from db.vectors import towers, watch


class OpenBatches(NamedTuple):
    """Of the jobs of a kind. digits: in batches that are queued or leased. oldest: seconds since the oldest that is
    queued was made; 0 where none is."""

    queued: int = 0
    leased: int = 0
    digits: int = 0
    oldest: float = 0.0


class MaintainedTower(NamedTuple):
    """A tower that new digits get a vector under. due: vectors that wait in open batches to be computed."""

    id: int
    fingerprint: str
    status: TowerStatus
    recipe: str
    due: int


class Figures(NamedTuple):
    """canary: the worst difference of the last canary of each machine in the last week, infinite where a vector was not
    finite; checked: seconds since the newest; both None where there was none. looked_at, far: of the last day on which
    new digits were looked at under the live tower."""

    batches: dict[JobKind, OpenBatches]
    towers: list[MaintainedTower]
    dead: int  # batches
    canary: float | None
    checked: float | None
    looked_at: int
    far: int


def figures(session: Session) -> Figures:
    """As the store stands now."""
    batches: dict[JobKind, OpenBatches] = dict.fromkeys(JobKind, OpenBatches())
    under: dict[int | None, int] = {}
    for kind, tower, queued, leased, digits, oldest in fetch(session, _OPEN):
        before = batches[kind]
        batches[JobKind(kind)] = OpenBatches(
            before.queued + queued, before.leased + leased, before.digits + digits, max(before.oldest, float(oldest))
        )
        if kind in (JobKind.EMBED, JobKind.BACKFILL):
            under[tower] = under.get(tower, 0) + digits
    canaries = watch.latest_canaries(session)
    looked_at, far = _drift(session)
    return Figures(
        batches=batches,
        towers=[
            MaintainedTower(row.id, row.fingerprint, row.status, row.recipe, under.get(None, 0) + under.get(row.id, 0))
            for row in session.execute(_MAINTAINED).all()
        ],
        dead=session.execute(_DEAD).scalar_one(),
        canary=max((float("inf") if each.worst is None else each.worst for each, _ in canaries), default=None),
        checked=min((age for _, age in canaries), default=None),
        looked_at=looked_at,
        far=far,
    )


_OPEN = """
    SELECT kind, tower, count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'leased'),
        sum(cardinality(digits)),
        coalesce(extract(epoch FROM now() - min(batches.created_at) FILTER (WHERE state = 'queued')), 0)
    FROM batches JOIN jobs ON jobs.id = batches.job WHERE state IN ('queued', 'leased') GROUP BY kind, tower
"""
_MAINTAINED = (
    select(Tower.id, Tower.fingerprint, Tower.status, Tower.recipe).where(towers.is_maintained()).order_by(Tower.id)
)
_DEAD = select(func.count()).select_from(Batch).where(Batch.state == BatchState.DEAD)


def _drift(session: Session) -> tuple[int, int]:
    """Of the live tower's last day: digits looked at, and those that are far from all others."""
    live = select(Tower.id).where(Tower.status == TowerStatus.LIVE).scalar_subquery()
    last = select(func.max(Drift.day)).where(Drift.tower == live).scalar_subquery()
    sums = select(func.coalesce(func.sum(Drift.looked_at), 0), func.coalesce(func.sum(Drift.far), 0))
    looked_at, far = session.execute(sums.where(Drift.tower == live, Drift.day == last)).one()
    return int(looked_at), int(far)
