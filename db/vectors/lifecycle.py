"""The status of a tower: candidate -> live -> previous -> retired, or rejected; and back from previous to live.

Every change of a status holds `locks.change_towers`, which waits for all who write vectors. It must not know models,
nor how a candidate is judged.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Interval, cast, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import locks
from db.errors import NotPromotable, NotRetirable, UnknownTower
from db.states import EMBEDDED_UNDER, BatchState, JobKind, TowerStatus
from db.tables import Batch, Job, Tower
from db.vectors import asked, partitions
from db.vectors.backfill import count_missing, end_jobs, queue_due, queue_missing
from db.vectors.verdict import Verdict, refusal, said_against


@dataclass(frozen=True, kw_only=True)
class NewTower:
    """A trained tower as it is registered: what `towers` holds, less what the ledger adds.

    file: the bytes of the `.keras` file. fingerprint: SHA-256 of its weights, hex. frame: of its space, as
    `db.vectors.frame` writes it; None where there is none, and every query compares all vectors. gate: as
    `training.fit.gate` writes it; None where there is none, and no digit is doubtful. lineage: what it was trained on,
    by which versions, and who or what started that.
    """

    fingerprint: str
    file: bytes
    recipe: str
    settings: dict[str, Any]
    seed: int
    data_digest: str
    versions: dict[str, str]
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    threshold: float
    frame: bytes | None = None
    gate: bytes | None = None
    lineage: dict[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """What became of a tower: it went live, or was refused for a reason."""

    tower: int
    fingerprint: str
    rejected_because: str | None = None


def register(session: Session, tower: NewTower) -> Tower:
    """Store a trained tower and create the partition of its vectors.

    The first one goes live at once; a later one is the candidate, from this commit on embedded under beside the live
    one, and the stored digits are queued to be. A candidate that has not gone live yet is rejected in its favour.
    Weights that are registered already are not registered twice.
    """
    locks.change_towers(session)
    known = session.execute(select(Tower).where(Tower.fingerprint == tower.fingerprint)).scalar()
    if known is not None and known.status in EMBEDDED_UNDER:
        return known
    first = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar() is None
    for older in session.execute(select(Tower.id).where(Tower.status == TowerStatus.CANDIDATE)).scalars().all():
        _reject(session, refusal(older, "replaced", "a newer training took its place"))
    status = TowerStatus.LIVE if first else TowerStatus.CANDIDATE
    live_from = func.now() if first else None
    if known is not None:
        id = known.id
        frame, gate = func.coalesce(Tower.frame, tower.frame), func.coalesce(Tower.gate, tower.gate)
        values = {"frame": frame, "gate": gate, "lineage": tower.lineage}  # processes remember frame and gate
        file = {"file": tower.file, "file_digest": hashlib.sha256(tower.file).digest()}  # that of before may be pruned
        session.execute(update(Tower).where(Tower.id == id).values(created_at=func.now(), **file, **values))
        _begin_anew(session, known, status, live_from=live_from)
    else:
        id = session.execute(
            insert(Tower)
            .values(
                **vars(tower),
                file_digest=hashlib.sha256(tower.file).digest(),
                status=status,
                live_from=live_from,
            )
            .returning(Tower.id)
        ).scalar_one()
        partitions.create_partition(session, id)
    if not first:
        asked.forget(session)  # what the one before it did not come to be judged by
        queue_missing(session, id)
    session.expire_all()
    return session.execute(select(Tower).where(Tower.id == id)).scalar_one()


def _begin_anew(session: Session, tower: Tower, status: TowerStatus, *, live_from: Any = None) -> None:
    """Let a tower of before be one again, unjudged; the vectors of one that could be rolled back to are kept."""
    if tower.status != TowerStatus.PREVIOUS:
        partitions.drop_partition(session, tower.id)
        partitions.create_partition(session, tower.id)
    session.execute(
        update(Tower)
        .where(Tower.id == tower.id)
        .values(
            status=status,
            live_from=live_from,
            live_until=None,
            retired_at=None,
            verdict=None,
            forced_by=None,
            maintained=False,
            rollback_asked_at=None,
        )
    )


def reject(session: Session, tower: int, why: str, *, criterion: str = "given_up") -> bool:
    """Reject a candidate, with a verdict of one criterion; False where the tower is not (or no longer) a candidate."""
    locks.change_towers(session)
    status = session.execute(select(Tower.status).where(Tower.id == tower)).scalar()
    if status == TowerStatus.CANDIDATE:
        _reject(session, refusal(tower, criterion, why))
    return status == TowerStatus.CANDIDATE


def give_up(session: Session, tower: int, why: str) -> bool:
    """Reject a candidate, or retire the previous tower, because it cannot be loaded; False where it is the live one,
    without which nothing can be embedded."""
    if reject(session, tower, why, criterion="loaded"):
        return True
    previous = _tower(session, tower).status == TowerStatus.PREVIOUS
    if previous:
        _retire(session, [tower], why)
    return previous


def _reject(session: Session, verdict: Verdict) -> None:
    session.execute(
        update(Tower)
        .where(Tower.id == verdict.candidate)
        .values(status=TowerStatus.REJECTED, retired_at=func.now(), verdict=_recorded(session, verdict))
    )
    end_jobs(session, verdict.candidate, verdict.refused_because or "")


def _recorded(session: Session, verdict: Verdict) -> dict[str, Any]:
    forced_by = session.execute(select(Tower.forced_by).where(Tower.id == verdict.candidate)).scalar_one()
    now = session.execute(select(func.now())).scalar_one()
    return verdict.record(judged_at=now.isoformat(), forced_by=forced_by)


def open_judging(session: Session) -> Decision | int | None:
    """Open the job that judges the candidate once its backfill has ended: its batch. None where it is too early.

    Counted in the vectors themselves, not taken on a task's word: what is found missing is queued again. A candidate
    that cannot be filled or judged is rejected.
    """
    unjudged = select(Tower).where(Tower.status == TowerStatus.CANDIDATE, Tower.verdict.is_(None), ~_is_worked_on())
    if session.execute(unjudged).scalar() is None:
        return None
    locks.change_towers(session)
    candidate = session.execute(unjudged).scalar()  # looked up anew: another may have come while this waited
    if candidate is None:
        return None
    if (decision := _reject_failed(session, candidate)) is not None:
        return decision
    if queue_missing(session, candidate.id):
        return None
    job = uuid.uuid4()
    opened = {"id": job, "kind": JobKind.JUDGE, "tower": candidate.id, "chunks": 1, "parameters": {}}
    session.execute(insert(Job).values(receiving=False, **opened))
    batch = insert(Batch).values(job=job, seq=0, state=BatchState.QUEUED, digits=[], published_at=func.now())
    return int(session.execute(batch.returning(Batch.id)).scalar_one())


def conclude(session: Session, verdict: Verdict) -> bool:
    """Note the verdict on the candidate, and reject it where it did not pass and nobody insists.

    False, and nothing is noted, where the tower is a candidate no more or another one is live than it was compared
    with: such a candidate is judged again.
    """
    locks.change_towers(session)
    candidate = _candidate(session, Tower.id == verdict.candidate)
    if candidate is None or verdict.live != _live(session):
        return False
    if not verdict.passed and candidate.forced_by is None:
        _reject(session, verdict)
    else:
        record = _recorded(session, verdict)
        session.execute(update(Tower).where(Tower.id == verdict.candidate).values(verdict=record))
    return True


def promote_ready(session: Session, *, auto: bool = True, maintain: bool = True) -> Decision | None:
    """Let the candidate go live if it was judged, and passed or is insisted on. None where it is too early.

    What it lacks is counted again, under the lock: no vector is written between that and the promotion.

    auto: whether one that passed goes live unasked. maintain: whether new digits get a vector under the tower that was
    live until now.
    """
    ready = select(Tower).where(Tower.status == TowerStatus.CANDIDATE, Tower.verdict.isnot(None), ~_is_worked_on())
    ready = ready.where(~_is_rolled_back())
    if not auto:
        ready = ready.where(Tower.forced_by.isnot(None))
    if session.execute(ready).scalar() is None:
        return None
    locks.change_towers(session)
    candidate = session.execute(ready).scalar()
    if candidate is None:
        return None
    return _promote_judged(session, candidate, maintain=maintain)


def _promote_judged(session: Session, candidate: Tower, *, maintain: bool) -> Decision | None:
    if (decision := _reject_failed(session, candidate)) is not None:
        return decision
    if candidate.verdict is None or candidate.verdict["live"] != _live(session):
        session.execute(update(Tower).where(Tower.id == candidate.id).values(verdict=None))  # to be judged again
        return None
    if queue_missing(session, candidate.id):
        return None
    _go_live(session, candidate.id, maintain=maintain)
    return Decision(candidate.id, candidate.fingerprint)


def promote(session: Session, tower: int, *, by: str, force: bool, maintain: bool) -> Decision | str:
    """Let a tower go live because someone asks for it; or why not at once, and what happens instead.

    by: who asks. force: whatever the verdict, which says so then. The previous one is rolled back to. A retired one is
    backfilled and judged as a candidate again; so is, with `force`, a rejected one. None goes live that lacks a vector.
    Raises UnknownTower, NotPromotable.
    """
    locks.change_towers(session)
    found = _tower(session, tower)
    if found.status == TowerStatus.LIVE:
        return Decision(found.id, found.fingerprint)
    if found.status == TowerStatus.PREVIOUS:
        rolled = roll_back(session, maintain=maintain)
        return rolled.decision or f"{rolled.missing:,} digits are embedded under tower {tower} first"
    if session.execute(select(_is_rolled_back())).scalar_one():
        raise NotPromotable("a rollback is under way: see `twinvec towers`, and ask again when it has ended")
    if force:
        session.execute(update(Tower).where(Tower.id == tower).values(forced_by=by))
    if found.status == TowerStatus.CANDIDATE:
        return _promote_candidate(session, found, force=force, maintain=maintain)
    if found.status == TowerStatus.REJECTED and not force:
        why = said_against(found.verdict) or "no reason was recorded"
        raise NotPromotable(f"tower {tower} was rejected: {why}. To insist, say --force: it is in the record then")
    other = _candidate(session)
    if other is not None:
        raise NotPromotable(f"tower {other.id} is the candidate: promote or retire that one first")
    if found.file is None:
        raise NotPromotable(f"the file of tower {tower} is pruned: train it again")
    _begin_anew(session, found, TowerStatus.CANDIDATE)
    values: dict[str, Any] = {"created_at": func.now(), "forced_by": by if force else None}
    session.execute(update(Tower).where(Tower.id == tower).values(**values))
    count = queue_missing(session, tower)
    return f"its vectors were dropped: {count:,} digits are embedded under it anew, and then it is judged"


def _promote_candidate(session: Session, candidate: Tower, *, force: bool, maintain: bool) -> Decision | str:
    if session.execute(select(Tower.id).where(Tower.id == candidate.id, _is_worked_on())).scalar() is not None:
        return f"{count_missing(session, candidate.id):,} digits lack a vector under it, or it is being judged"
    if candidate.verdict is None:
        return "it is judged first"
    decision = _promote_judged(session, candidate, maintain=maintain)
    return "what it lacks is embedded first, or it is judged again" if decision is None else decision


@dataclass(frozen=True)
class Rollback:
    """decision: None while digits are embedded first. missing: digits that lack a vector under the tower."""

    tower: int
    missing: int
    decision: Decision | None


def roll_back(session: Session, *, maintain: bool, at_once: bool = False, leaving: int | None = None) -> Rollback:
    """Let the previous tower go live again, vectors, threshold and all; the live one becomes the previous.

    Digits that lack a vector under it are embedded first; with `at_once` afterwards, and no look-up finds them until
    then. leaving: the tower that is live, as the one who asks knows; where that has been left already, nothing is done.
    Raises NotPromotable where there is none.
    """
    locks.change_towers(session)
    previous = session.execute(select(Tower).where(Tower.status == TowerStatus.PREVIOUS)).scalar()
    live = session.execute(select(Tower).where(Tower.status == TowerStatus.LIVE)).scalar()
    if live is not None and previous is not None and previous.id == leaving:
        return Rollback(live.id, 0, Decision(live.id, live.fingerprint))
    if live is None or leaving not in (None, live.id):
        raise NotPromotable(f"tower {leaving} is not live: see `twinvec towers`")
    if previous is None:
        raise NotPromotable("there is no previous tower to go back to: its time was over, or none was live before")
    missing = count_missing(session, previous.id)
    if missing and not at_once:
        wish = {"rollback_asked_at": func.coalesce(Tower.rollback_asked_at, func.now()), "maintained": True}
        session.execute(update(Tower).where(Tower.id == previous.id).values(**wish))
        if session.execute(select(Tower.id).where(Tower.id == previous.id, ~_is_worked_on())).scalar() is not None:
            queue_missing(session, previous.id)
        return Rollback(previous.id, missing, None)
    _go_live(session, previous.id, maintain=maintain)
    if missing:
        queue_due(session)
    return Rollback(previous.id, missing, Decision(previous.id, previous.fingerprint))


def roll_back_ready(session: Session, *, maintain: bool = True) -> Decision | None:
    """Finish the rollback that was asked for once no vector is missing. None where none was, or it is too early."""
    wished = select(Tower).where(
        Tower.status == TowerStatus.PREVIOUS, Tower.rollback_asked_at.isnot(None), ~_is_worked_on()
    )
    if session.execute(wished).scalar() is None:
        return None
    locks.change_towers(session)
    previous = session.execute(wished).scalar()
    if previous is None:
        return None
    if (fault := _failure(session, previous.id, previous.rollback_asked_at)) is not None:
        session.execute(update(Tower).where(Tower.id == previous.id).values(rollback_asked_at=None))
        return Decision(previous.id, previous.fingerprint, rejected_because=fault)
    if queue_missing(session, previous.id):
        return None
    _go_live(session, previous.id, maintain=maintain)
    return Decision(previous.id, previous.fingerprint)


def retire(session: Session, tower: int, *, by: str) -> TowerStatus:
    """Retire the previous tower, or reject the candidate, because someone asks for it; what it is now.

    Its vectors are dropped soon after. Raises UnknownTower, and NotRetirable where it is live.
    """
    locks.change_towers(session)
    found = _tower(session, tower)
    if found.status == TowerStatus.LIVE:
        raise NotRetirable(f"tower {tower} is live: let another go live first, by `twinvec rollback` or `promote`")
    if found.status == TowerStatus.CANDIDATE:
        _reject(session, refusal(tower, "retired", f"{by} retired it"))
        return TowerStatus.REJECTED
    if found.status == TowerStatus.PREVIOUS:
        _retire(session, [tower], f"{by} retired it")
        return TowerStatus.RETIRED
    return found.status


def keep_previous(session: Session, *, days: float, maintain: bool) -> list[int]:
    """Retire the previous tower so many days after it was live; whose. maintain: whether new digits get a vector under
    it until then. One that is being rolled back to is left as it is."""
    previous = select(Tower).where(Tower.status == TowerStatus.PREVIOUS, Tower.rollback_asked_at.is_(None))
    over = Tower.live_until < func.now() - cast(f"{days} days", Interval)
    due = previous.where(or_(over, Tower.maintained != maintain))
    if session.execute(due).scalar() is None:
        return []
    locks.change_towers(session)
    old = list(session.execute(previous.where(over).with_only_columns(Tower.id)).scalars())
    _retire(session, old, f"it was live until {days:g} days ago")
    session.execute(
        update(Tower)
        .where(Tower.status == TowerStatus.PREVIOUS, Tower.rollback_asked_at.is_(None))
        .values(maintained=maintain)
    )
    return old


def judge_again(session: Session, tower: int) -> None:
    """Forget the verdict on the candidate, so that upkeep has it judged. Raises UnknownTower, NotPromotable."""
    locks.change_towers(session)
    found = _tower(session, tower)
    if found.status != TowerStatus.CANDIDATE:
        raise NotPromotable(f"tower {tower} is {found.status}: the candidate alone is judged")
    session.execute(update(Tower).where(Tower.id == tower).values(verdict=None))


def _go_live(session: Session, tower: int, *, maintain: bool) -> None:
    """Let a tower that lacks no vector go live. The old one stays as `previous`, and the one before that is retired."""
    before = select(Tower.id).where(Tower.status == TowerStatus.PREVIOUS, Tower.id != tower)
    _retire(session, session.execute(before).scalars().all(), f"tower {tower} went live")
    old = session.execute(
        update(Tower)
        .where(Tower.status == TowerStatus.LIVE)
        .values(status=TowerStatus.PREVIOUS, live_until=func.now(), maintained=maintain)
        .returning(Tower.id)
    ).scalar_one()
    end_jobs(session, old, f"tower {tower} went live in its place")
    session.execute(
        update(Tower)
        .where(Tower.id == tower)
        .values(
            status=TowerStatus.LIVE, live_from=func.now(), live_until=None, maintained=False, rollback_asked_at=None
        )
    )
    session.expire_all()


def _retire(session: Session, towers: Sequence[int], why: str) -> None:
    retired = {"status": TowerStatus.RETIRED, "retired_at": func.now(), "maintained": False, "rollback_asked_at": None}
    session.execute(update(Tower).where(Tower.id.in_(towers)).values(**retired))
    for tower in towers:
        end_jobs(session, tower, why)


def _tower(session: Session, id: int) -> Tower:
    found = session.execute(select(Tower).where(Tower.id == id)).scalar()
    if found is None:
        raise UnknownTower(f"no tower has the id {id}: `twinvec towers` lists them")
    return found


def _candidate(session: Session, *which: ColumnElement[bool]) -> Tower | None:
    return session.execute(select(Tower).where(Tower.status == TowerStatus.CANDIDATE, *which)).scalar()


def _live(session: Session) -> int | None:
    return session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()


def _is_worked_on() -> ColumnElement[bool]:
    """Whether a backfill under a tower, or a job that judges it, goes on."""
    kinds = (JobKind.BACKFILL, JobKind.JUDGE)
    return exists(select(Job.id).where(Job.tower == Tower.id, Job.kind.in_(kinds), Job.ended_at.is_(None)))


def _is_rolled_back() -> ColumnElement[bool]:
    return exists(select(Tower.id).where(Tower.rollback_asked_at.isnot(None)).correlate(None))


def _reject_failed(session: Session, candidate: Tower) -> Decision | None:
    """Reject a candidate whose backfill or judging failed since it was registered.

    Since then: the same weights may have been rejected before.
    """
    fault = _failure(session, candidate.id, candidate.created_at)
    if fault is None:
        return None
    _reject(session, refusal(candidate.id, "complete", fault))
    return Decision(candidate.id, candidate.fingerprint, rejected_because=fault)


def _failure(session: Session, tower: int, since: Any) -> str | None:
    query = select(Job.message).where(
        Job.tower == tower,
        Job.kind.in_((JobKind.BACKFILL, JobKind.JUDGE)),
        Job.message.isnot(None),
        Job.created_at >= since,
    )
    return session.execute(query.limit(1)).scalar()
