"""Who asked for what, and when: a row for each request of a person or an application that changes what others see.

A row is of the transaction that does what it says. It must not know what an action does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Interval, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import Action

NOT_SAID = "not said"  # by whom: a sender that does not say it
AT_ONCE = 600  # seconds within which the same again, with nothing between, is counted in the same row
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An action. at: of the last time, ISO 8601. target: as `lane embed`, `job ID`, `tower 3`. times: how often."""

    at: str
    by: str
    action: str
    target: str
    details: dict[str, Any] | None
    times: int


def record(session: Session, by: str, action: str, target: str, details: dict[str, Any] | None = None) -> None:
    """Note who did what. Numbers in the details of the same action, repeated, are added up."""
    last = session.execute(select(Action).order_by(Action.id.desc()).limit(1)).scalar()
    recent = select(func.now() - cast(f"{AT_ONCE} seconds", Interval)).scalar_subquery()
    if last is not None and (last.by, last.action, last.target) == (by, action, target):
        summed = _summed(last.details, details)
        again = update(Action).where(Action.id == last.id, Action.at > recent, Action.times == last.times)
        values = {"at": func.now(), "times": last.times + 1, "details": summed}
        if session.execute(again.values(values).returning(Action.id)).scalar() is not None:
            return
    session.execute(insert(Action).values(by=by, action=action, target=target, details=details))


def recorded(
    work: Callable[Concatenate[Session, P], T],
    by: str,
    action: str,
    target: str,
    details: dict[str, Any] | None = None,
) -> Callable[Concatenate[Session, P], T]:
    """A function of a session that does some work and notes who did it, in one transaction."""

    def both(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result = work(session, *args, **kwargs)
        record(session, by, action, target, details)
        return result

    return both


def latest(session: Session, *, limit: int) -> list[Recorded]:
    """The last actions, newest first."""
    rows = session.execute(select(Action).order_by(Action.id.desc()).limit(limit)).scalars()
    return [
        Recorded(
            at=row.at.isoformat(), by=row.by, action=row.action, target=row.target, details=row.details, times=row.times
        )
        for row in rows
    ]


def prune(session: Session, *, days: float, rows: int) -> int:
    """Delete the oldest actions that are older than some days, so many at most; how many."""
    old = select(Action.id).where(Action.at < func.now() - cast(f"{days} days", Interval)).order_by(Action.id)
    gone = delete(Action).where(Action.id.in_(old.limit(rows).scalar_subquery())).returning(Action.id)
    return len(session.execute(gone).all())


def _summed(before: dict[str, Any] | None, now: dict[str, Any] | None) -> dict[str, Any] | None:
    if before is None or now is None:
        return now or before
    counts = {
        name: before[name] + value
        for name, value in now.items()
        if isinstance(value, int) and not isinstance(value, bool) and isinstance(before.get(name), int)
    }
    return {**now, **counts}
