"""What is kept of the watch over a live tower: vectors that were computed again, and how far new digits are from old
ones. It must not compute a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.bulk import fetch
from db.tables import Canary, Drift
from db.vectors import compared, search
from db.vectors.search import Query, Wanted
from db.vectors.towers import Space

ALARM = 1e-5  # of any number of a vector that is computed again; a digit alone and in a batch differ by 7e-7
KEPT_DAYS = 400
AT_ONCE = 50  # new digits of a collection that are looked at in a round
LATEST = 200_000  # digits: of more that came since the last round, the older ones are passed over


def record_canary(session: Session, tower: int, *, worker: str, digits: int, worst: float | None) -> None:
    """Keep what came of computing vectors again; what is older than KEPT_DAYS goes."""
    session.execute(insert(Canary).values(tower=tower, worker=worker, digits=digits, worst=worst))
    session.execute(delete(Canary).where(Canary.checked_at < func.now() - text(f"interval '{KEPT_DAYS} days'")))


def latest_canaries(session: Session) -> list[tuple[Canary, float]]:
    """The last one of each machine in the last week, and how many seconds ago, the newest first."""
    machine = func.split_part(Canary.worker, ":", 1)
    age = func.extract("epoch", func.now() - Canary.checked_at)
    query = (
        select(Canary, age)
        .ext(postgresql.distinct_on(machine))
        .where(Canary.checked_at > func.now() - text("interval '7 days'"))
        .order_by(machine, Canary.checked_at.desc())
    )
    return sorted(((row[0], float(row[1])) for row in session.execute(query)), key=lambda each: each[1])


class NewDigits(NamedTuple):
    """Of a collection. ids: of some that came since the last round. last: the id up to which they are looked at."""

    collection: str
    ids: list[int]
    last: int


def new_digits(session: Session) -> list[NewDigits]:
    """Some of the digits of each collection that came since the last round."""
    query = """
        SELECT collection, array_agg(id), max(last) FROM (
            SELECT id, collection, max(id) OVER (PARTITION BY collection) AS last,
                row_number() OVER (PARTITION BY collection ORDER BY hashint8(id)) AS place
            FROM digits
            WHERE id > greatest(
                (SELECT coalesce(max(last_digit), 0) FROM drift),
                (SELECT coalesce(max(id), 0) FROM digits) - %s
            )
        ) AS came WHERE place <= %s GROUP BY collection ORDER BY collection
    """
    return [NewDigits(*row) for row in fetch(session, query, (LATEST, AT_ONCE))]


def count_far(session: Session, space: Space, ids: Sequence[int]) -> tuple[int, int]:
    """Of the digits that have a vector, how many, and how many are farther from the nearest other one than the
    threshold. In a transaction that `search.begin` has begun."""
    there = compared.both(session, [space.tower], ids)
    queries = [
        Query(vector, leave_out=id) for id, vector in zip(there.ids.tolist(), there.vectors[space.tower], strict=True)
    ]
    found = search.nearest(session, space.tower, space.frame, queries, Wanted(1)) if queries else []
    far = [not each.neighbours or each.neighbours[0].distance > space.threshold for each in found]
    return len(far), sum(far)


def record_drift(session: Session, tower: int, new: NewDigits, *, looked_at: int, far: int) -> None:
    """Add to what is known of today."""
    values = {"tower": tower, "collection": new.collection, "looked_at": looked_at, "far": far, "last_digit": new.last}
    added = postgresql.insert(Drift).values(day=func.current_date(), **values)
    session.execute(
        added.on_conflict_do_update(
            index_elements=["day", "collection", "tower"],
            set_={
                "looked_at": Drift.looked_at + added.excluded.looked_at,
                "far": Drift.far + added.excluded.far,
                "last_digit": func.greatest(Drift.last_digit, added.excluded.last_digit),
            },
        )
    )
    session.execute(delete(Drift).where(Drift.day < func.current_date() - KEPT_DAYS))


def drift(session: Session, *, days: int) -> list[Drift]:
    """Of the last days, the newest first."""
    query = select(Drift).where(Drift.day > func.current_date() - days)
    return list(session.execute(query.order_by(Drift.day.desc(), Drift.collection)).scalars())
