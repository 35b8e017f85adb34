"""Towers and their life: candidate -> live -> previous -> retired."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, undefer

from db import embeddings, locks
from db.errors import NoTower
from db.tables import Batch, Digit, Embedding, Job, Tower

FILL_BATCH = 4096  # digits


def live(session: Session) -> Tower:
    """The tower that answers. Raises NoTower."""
    tower = session.execute(select(Tower).where(Tower.status == "live")).scalar()
    if tower is None:
        raise NoTower("no tower is live yet: train one with `twinvec train`")
    return tower


def with_file(session: Session, id: int) -> Tower:
    """A tower with its `.keras` file loaded."""
    return session.execute(select(Tower).where(Tower.id == id).options(undefer(Tower.file))).scalar_one()


def all_of_them(session: Session) -> list[dict[str, Any]]:
    """Every tower, newest first, with how many vectors it has and is owed."""
    digits = session.execute(select(func.count()).select_from(Digit)).scalar_one()
    towers = session.execute(select(Tower).order_by(Tower.id.desc())).scalars().all()
    return [_describe(session, tower, digits) for tower in towers]


def _describe(session: Session, tower: Tower, digits: int) -> dict[str, Any]:
    embedded = embeddings.count(session, tower.id)
    return {
        "id": tower.id,
        "fingerprint": tower.fingerprint,
        "status": tower.status,
        "recipe": tower.recipe,
        "seed": tower.seed,
        "metrics": tower.metrics,
        "threshold": tower.threshold,
        "created": tower.created.isoformat(),
        "embedded": embedded,
        "owed": digits - embedded - _buried(session, tower.id) if tower.status in ("live", "candidate") else 0,
    }


def _buried(session: Session, tower: int) -> int:
    """How many stored digits have no vector under a tower because their batch is dead."""
    dead = select(func.unnest(Batch.digits)).join(Job).where(Batch.state == "dead", _tells_of(tower))
    query = select(func.count()).where(Digit.id.in_(dead), ~_embedded_under(tower, Digit.id))
    return session.execute(query).scalar_one()


def register(session: Session, tower: dict[str, Any]) -> Tower:
    """Store a trained tower (the columns of `towers`, less id, status and times) and open its space.

    The first one goes live at once; a later one is the candidate, from this commit on embedded under beside the live
    one, and the stored digits are queued to be. A candidate that was still being filled is rejected in its favour.
    Weights that are registered already are not registered twice.
    """
    locks.change_towers(session)
    known = session.execute(select(Tower).where(Tower.fingerprint == tower["fingerprint"])).scalar()
    if known is not None and known.status in ("live", "candidate"):
        return known
    first = session.execute(select(Tower.id).where(Tower.status == "live")).scalar() is None
    for older in session.execute(select(Tower.id).where(Tower.status == "candidate")).scalars().all():
        _reject(session, older, "a newer training took its place")
    status = "live" if first else "candidate"
    promoted = func.now() if first else None
    if known is not None:
        embeddings.close_space(session, known.id)
        session.execute(
            update(Tower).where(Tower.id == known.id).values(status=status, promoted=promoted, created=func.now())
        )
        id = known.id
    else:
        id = session.execute(
            insert(Tower).values(**tower, status=status, promoted=promoted).returning(Tower.id)
        ).scalar_one()
    embeddings.open_space(session, id)
    if not first:
        plan_fill(session, id)
    session.expire_all()
    return session.execute(select(Tower).where(Tower.id == id)).scalar_one()


def reject(session: Session, tower: int, why: str) -> bool:
    """Give a candidate up; False where it is none (any more)."""
    locks.change_towers(session)
    status = session.execute(select(Tower.status).where(Tower.id == tower)).scalar()
    if status == "candidate":
        _reject(session, tower, why)
    return status == "candidate"


def _reject(session: Session, tower: int, why: str) -> None:
    session.execute(update(Tower).where(Tower.id == tower).values(status="rejected"))
    _end_fills(session, tower, why)


def _end_fills(session: Session, tower: int, why: str) -> None:
    """Cancel what was still to be embedded under a tower alone: nobody will claim it any more."""
    fills = session.execute(select(Job.id).where(Job.tower == tower).with_for_update()).scalars().all()
    session.execute(update(Job).where(Job.id.in_(fills), Job.ended.is_(None)).values(message=why, ended=func.now()))
    session.execute(  # of a fill that has ended as well: it ends with the first batch that is dead
        update(Batch)
        .where(Batch.job.in_(fills), Batch.state.in_(["queued", "leased"]))
        .values(
            state="cancelled",
            token=None,
            lease_until=None,
            finished=func.now(),
            dropped=func.cardinality(Batch.digits),
        )
    )


def plan_fill(session: Session, tower: int) -> int:
    """Queue the digits that are embedded under another tower and not under this one; how many they are."""
    owed = select(Embedding.digit).where(
        Embedding.tower == select(Tower.id).where(Tower.status == "live").scalar_subquery()
    )
    return _queue_fill(session, tower, owed.where(~_embedded_under(tower, Embedding.digit)))


def plan_owed(session: Session) -> int:
    """Queue the digits that have no vector under the live tower and stand in no open batch; how many they are.

    After a restore, say, or where a tower's vectors were lost: they are computable from the stored pixels alone.
    """
    locks.hold_towers(session)
    tower = session.execute(select(Tower.id).where(Tower.status == "live")).scalar()
    if tower is None:
        return 0
    waiting = (
        select(func.unnest(Batch.digits))
        .join(Job, Job.id == Batch.job)
        # What killed its workers before would do so again; what a fill died of speaks of its own tower alone.
        .where(or_(Batch.state.in_(["queued", "leased"]), and_(Batch.state == "dead", _tells_of(tower))))
    )
    owed = select(Digit.id).where(~_embedded_under(tower, Digit.id), Digit.id.not_in(waiting))
    return _queue_fill(session, tower, owed)


def _tells_of(tower: int) -> ColumnElement[bool]:
    """Whether a dead batch of this job says something of a tower; that of a fill speaks of its own tower alone."""
    return or_(Job.kind == "embed", Job.tower == tower)


def _embedded_under(tower: int, digit: Any) -> ColumnElement[bool]:
    there = aliased(Embedding)
    return exists(select(there.digit).where(there.tower == tower, there.digit == digit))


def _queue_fill(session: Session, tower: int, digits: Any) -> int:
    """One fill job with batches of FILL_BATCH digits, by id."""
    ids = list(session.execute(digits.order_by(text("1"))).scalars())
    if not ids:
        return 0
    parts = [ids[start : start + FILL_BATCH] for start in range(0, len(ids), FILL_BATCH)]
    job = uuid.uuid4()
    session.execute(
        insert(Job).values(id=job, kind="fill", tower=tower, total=len(ids), chunks=len(parts), parameters={})
    )
    session.execute(
        insert(Batch),
        [
            {"job": job, "seq": seq, "state": "queued", "digits": part, "items": len(part)}
            for seq, part in enumerate(parts)
        ],
    )
    return len(ids)


def settle_fills(session: Session) -> None:
    """End the fill jobs that have no open batch left."""
    still_open = exists(select(Batch.id).where(Batch.job == Job.id, Batch.state.in_(["queued", "leased"])))
    session.execute(update(Job).where(Job.kind == "fill", Job.ended.is_(None), ~still_open).values(ended=func.now()))


def promote_ready(session: Session) -> Tower | None:
    """Let the candidate go live if every digit that is embedded under the live tower is embedded under it as well.

    Counted in the vectors themselves, not taken on a task's word. What is found missing once its fill has ended is
    queued again. The old tower stays as `previous`, and the one before that is retired.
    """
    ready = select(Tower.id).where(Tower.status == "candidate", ~_is_filling(Tower.id))
    if session.execute(ready).scalar() is None:
        return None
    locks.change_towers(session)
    candidate = session.execute(ready).scalar()  # again: another may have come while this waited
    if candidate is None:
        return None
    if (why := _fill_failure(session, candidate)) is not None:
        _reject(session, candidate, why)
        return None
    if plan_fill(session, candidate):
        return None
    session.execute(update(Tower).where(Tower.status == "previous").values(status="retired"))
    old = session.execute(
        update(Tower).where(Tower.status == "live").values(status="previous").returning(Tower.id)
    ).scalar_one()
    _end_fills(session, old, f"tower {candidate} went live in its place")
    session.execute(update(Tower).where(Tower.id == candidate).values(status="live", promoted=func.now()))
    session.expire_all()
    return live(session)


def _is_filling(tower: Any) -> ColumnElement[bool]:
    return exists(select(Job.id).where(Job.tower == tower, Job.kind == "fill", Job.ended.is_(None)))


def _fill_failure(session: Session, candidate: int) -> str | None:
    """Why a fill failed since the candidate was registered; the same weights may have been rejected before."""
    query = (
        select(Job.message)
        .join(Tower, Tower.id == Job.tower)
        .where(Tower.id == candidate, Job.kind == "fill", Job.message.isnot(None), Job.created >= Tower.created)
    )
    return session.execute(query.limit(1)).scalar()


def spaces_to_close(session: Session) -> list[int]:
    """Retired and rejected towers whose vectors still stand."""
    query = text("""
        SELECT towers.id FROM towers
        WHERE status IN ('retired', 'rejected') AND to_regclass('embeddings_' || towers.id) IS NOT NULL
    """)
    return list(session.execute(query).scalars())
