"""The partition of `embeddings` that holds a tower's vectors: created, dropped. It must not decide a tower's status."""

from __future__ import annotations

from sqlalchemy import Interval, cast, func, select
from sqlalchemy.orm import Session

from db.states import DROPPED
from db.tables import Tower

# Seconds for which a transaction may have chosen the tower and not read a vector yet; after 25 the server ends one that
# waits. A partition that is dropped between the two would be read as empty.
IN_USE = 30


def create_partition(session: Session, tower: int) -> None:
    """Make the partition that holds a tower's vectors, with one open segment for every digit id.

    It blocks no reader and no writer.
    """
    session.execute(select(func.create_partition(tower)))


def drop_partition(session: Session, tower: int) -> None:
    """Drop a tower's vectors. Waits for transactions that read or write embeddings, and makes later ones wait."""
    session.execute(select(func.drop_partition(tower)))


def partitions_to_drop(session: Session) -> list[int]:
    """Retired and rejected towers that still have a partition, and that no transaction can be about to read."""
    query = select(Tower.id).where(
        Tower.status.in_(DROPPED),
        Tower.retired_at < func.now() - cast(f"{IN_USE} seconds", Interval),
        func.to_regclass(func.concat("embeddings_", Tower.id)).isnot(None),
    )
    return list(session.execute(query).scalars())
