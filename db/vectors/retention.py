"""How long the files of towers are kept that are no longer used. It must not know jobs, nor change a tower's status."""

from __future__ import annotations

from sqlalchemy import Interval, cast, delete, func, select, update
from sqlalchemy.orm import Session

from db.states import DROPPED
from db.tables import Learnt, Tower


def prune_files(session: Session, *, days: float) -> list[int]:
    """Delete the files of towers that were retired or rejected so many days ago, a few at a time; whose.

    What they learnt from is forgotten. The rest of a tower stays: its fingerprint, metrics and history.
    `db.vectors.lifecycle.register` brings the file back with the same weights.
    """
    old = (
        select(Tower.id)
        .where(Tower.file.isnot(None), Tower.status.in_(DROPPED))
        .where(Tower.retired_at < func.now() - cast(f"{days} days", Interval))
        .order_by(Tower.id)
        .limit(10)
        .with_for_update(skip_locked=True)
    )
    towers = list(session.execute(old).scalars())
    session.execute(update(Tower).where(Tower.id.in_(towers)).values(file=None))
    session.execute(delete(Learnt).where(Learnt.tower.in_(towers)))
    return towers
