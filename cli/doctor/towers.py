"""Whether stored vectors are still what the workers compute, and whether new digits are like those that were stored."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from cli.errors import explain
from db.states import TowerStatus
from db.tables import Tower
from db.vectors import watch
from db.vectors.verdict import said_against
from worker.settings import Settings

LATE = 3  # watches that may be missed
STRANGE = 0.1  # of a day's new digits that may be far from all others
FEW = 30  # digits: a share of fewer says little


def towers(connection: Connection | None, settings: Settings) -> Iterator[Finding]:
    """Nothing without a connection to a database of this version: `database` says so."""
    if connection is None:
        return
    with Session(connection) as session:
        try:
            yield from _refused(session)
            yield from _canaries(session, settings)
            yield from _drift(session)
        except SQLAlchemyError as error:
            yield Finding("towers", WARNING, f"could not be looked at: {explain(error)[0]}")


def _refused(session: Session) -> Iterator[Finding]:
    """The newest tower, if it was refused."""
    newest = session.execute(select(Tower).order_by(Tower.created_at.desc()).limit(1)).scalar()
    if newest is None or newest.status != TowerStatus.REJECTED or newest.verdict is None:
        return
    why = said_against(newest.verdict)
    advice = f"the tower before it goes on serving; see the figures by `twinvec tower {newest.id}`, and train another"
    yield Finding("towers", WARNING, f"tower {newest.id} was rejected: {why}", advice)


def _canaries(session: Session, settings: Settings) -> Iterator[Finding]:
    found = watch.latest_canaries(session)
    if not found:
        return
    for canary, _ in found:
        if canary.worst is None or canary.worst > watch.ALARM:
            differ = "NaN or infinity" if canary.worst is None else f"{canary.worst:.1g}"
            said = f"{canary.digits} stored vectors of tower {canary.tower} computed again differ by {differ}"
            advice = "stop that worker, and look at the driver, the backend and the card of its machine"
            yield Finding("canary", PROBLEM, f"{said}, by {canary.worker} at {canary.checked_at:%F %R}", advice)
    newest, age = found[0]
    if age > LATE * settings.watch:
        advice = "see that `twinvec beat` runs and a worker serves `backfill`"
        yield Finding("canary", WARNING, f"no stored vector was computed again for {age / 3600:.1f} h", advice)
    elif all(canary.worst is not None and canary.worst <= watch.ALARM for canary, _ in found):
        said = f"{newest.digits} vectors computed again {age / 60:.0f} min ago differ by {newest.worst:.1g}"
        yield Finding("canary", OK, f"{said} at most")


def _drift(session: Session) -> Iterator[Finding]:
    for each in watch.drift(session, days=2):
        share = each.far / max(each.looked_at, 1)
        if each.looked_at >= FEW and share > STRANGE:
            which = f"of {each.looked_at:,} new digits of the collection {each.collection!r} on {each.day}"
            found = f"{which}, {share:.0%} are farther from all others than the threshold"
            yield Finding("drift", WARNING, found, "look at them, label some, and train another tower")
