"""Work that is held back: a lane's, or a job's. What is worked on is finished; what waits is neither published nor
claimed until it is resumed, and costs no attempt meanwhile.

A claim asks here, and so does all that publishes. It must not change a row: `steering` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Interval, Text, case, cast, exists, func, or_, select, type_coerce
from sqlalchemy.orm import Session

from db.states import OPEN, JobKind
from db.tables import Batch, Job, LanePause

KINDS = {  # of jobs, by the lane that has their batches
    "embed": (JobKind.EMBED,),
    "backfill": (JobKind.BACKFILL, JobKind.JUDGE),
    "train": (JobKind.TRAIN,),
}
NOT_HELD = """
    jobs.paused_at IS NULL AND NOT EXISTS (
        SELECT FROM lane_pauses
        WHERE lane = CASE kind WHEN 'judge' THEN 'backfill' ELSE kind END AND resumed_at IS NULL
            AND (upto IS NULL OR coalesce(batches.parent, batches.id) > upto)
    )
"""  # as `is_held`, of a query's `jobs` and `batches`


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Who paused what, when (ISO 8601) and why.

    lane: None of a job's own. draining: what there was when it began is still worked on; left: how many batches of that
    are not finished, where that was counted.
    """

    by: str
    at: str
    why: str | None
    lane: str | None = None
    draining: bool = False
    left: int | None = None

    def sentence(self) -> str:
        """Of a lane's: that it is paused, by whom, since when and why."""
        held = "takes nothing new" if self.draining else "is paused"
        why = "" if self.why is None else f": {self.why}"
        at = datetime.fromisoformat(self.at).astimezone(UTC)
        return f"the lane {self.lane} {held}, by {self.by} since {at:%Y-%m-%d %H:%M} UTC{why}"


def is_held() -> ColumnElement[bool]:
    """Of a query's `Job` and `Batch`: whether the batch is held back by a pause of its job or its lane."""
    lane = case((Job.kind == JobKind.JUDGE, "backfill"), else_=type_coerce(Job.kind, Text))
    beyond = or_(LanePause.upto.is_(None), func.coalesce(Batch.parent, Batch.id) > LanePause.upto)
    paused = exists(select(LanePause.lane).where(LanePause.lane == lane, LanePause.resumed_at.is_(None), beyond))
    return or_(Job.paused_at.isnot(None), paused)


def of_lanes(session: Session) -> dict[str, Pause]:
    """The lanes that are paused."""
    rows = session.execute(select(LanePause).where(LanePause.resumed_at.is_(None)).order_by(LanePause.lane)).scalars()
    return {row.lane: _of_lane(row) for row in rows}


def of_lane(session: Session, lane: str) -> Pause | None:
    """The pause of a lane; None where it is not paused."""
    query = select(LanePause).where(LanePause.lane == lane, LanePause.resumed_at.is_(None))
    row = session.execute(query).scalar()
    return None if row is None else _of_lane(row)


def of_job(job: Job, lanes: dict[str, Pause]) -> Pause | None:
    """A job's own pause, or that of the lane of its batches; None where neither is paused."""
    if job.paused_by is not None and job.paused_at is not None:
        return Pause(by=job.paused_by, at=job.paused_at.isoformat(), why=job.paused_because)
    return next((lanes[lane] for lane, kinds in KINDS.items() if job.kind in kinds and lane in lanes), None)


def counted(session: Session, pause: Pause) -> Pause:
    """A lane's pause, with how many batches it still waits for where it drains."""
    kinds = KINDS.get(pause.lane or "")
    if not pause.draining or kinds is None:
        return pause
    upto = select(LanePause.upto).where(LanePause.lane == pause.lane).scalar_subquery()
    left = (
        select(func.count())
        .select_from(Batch)
        .join(Job)
        .where(Batch.state.in_(OPEN), Job.kind.in_(kinds), func.coalesce(Batch.parent, Batch.id) <= upto)
        .where(Job.paused_at.is_(None))
    )
    return replace(pause, left=session.execute(left).scalar_one())


def resumed_within(session: Session, lane: str, seconds: float) -> bool:
    """Whether a lane is paused, or was until so many seconds ago: what waited for it has had no time since."""
    since = func.now() - cast(f"{seconds} seconds", Interval)
    recent = or_(LanePause.resumed_at.is_(None), LanePause.resumed_at > since)
    return session.execute(select(LanePause.lane).where(LanePause.lane == lane, recent)).scalar() is not None


def _of_lane(row: LanePause) -> Pause:
    return Pause(
        by=row.paused_by, at=row.paused_at.isoformat(), why=row.why, lane=row.lane, draining=row.upto is not None
    )
