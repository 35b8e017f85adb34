"""Ending jobs whose clients have gone: what was accepted stays, and is embedded. It must not know a client."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Interval, and_, cast, exists, func, or_, select, update
from sqlalchemy.orm import Session

from db.queue.callbacks import ANEW
from db.queue.pauses import resumed_within
from db.states import JobKind
from db.tables import Batch, Job

LOOK = 1000  # jobs that one transaction looks at, at most


def abandon(session: Session, *, after: float) -> int:
    """End jobs that still receive and got no chunk for `after` seconds; how many.

    Jobs to which a chunk is on its way just now are left for the next time, and all of them while no chunk could come:
    while `intake` is paused, and for as long again afterwards.
    """
    if resumed_within(session, "intake", after):
        return 0
    silent = ~exists(select(Batch.id).where(Batch.job == Job.id, Batch.created_at > _ago(after)))
    query = (
        select(Job.id)
        .where(Job.kind == JobKind.EMBED, Job.receiving, Job.created_at < _ago(after), silent)
        .order_by(Job.created_at)
        .limit(LOOK)
        .with_for_update(key_share=True, skip_locked=True)
    )
    looked = list(session.execute(query).scalars())
    if not looked:
        return 0
    # Judged again under the lock: the last chunk of one may have come meanwhile.
    chunks = select(func.count(Batch.seq)).where(Batch.job == Job.id).scalar_subquery()
    over = or_(Job.cancelled_at.isnot(None), Job.pruned_at.isnot(None), func.coalesce(chunks >= Job.chunks, False))
    session.execute(update(Job).where(Job.id == func.any(looked), over).values(receiving=False))
    gone = update(Job).where(Job.id == func.any(looked), Job.receiving, silent)
    found = session.execute(gone.values(receiving=False, abandoned_at=func.now()).returning(Job.id))
    return len(found.all())


def reopen(session: Session, job: uuid.UUID) -> None:
    """Let an abandoned job receive again: a chunk has come. Its callback is called once more at its end."""
    abandoned = and_(Job.id == job, Job.abandoned_at.isnot(None), Job.pruned_at.is_(None))
    session.execute(update(Job).where(abandoned).values(ANEW | {"abandoned_at": None, "receiving": True}))


TAKES = """
    (abandoned_at IS NULL OR cancelled_at IS NOT NULL OR chunks <= %s
        OR EXISTS (SELECT FROM batches WHERE job = jobs.id AND seq = %s))
"""  # with a chunk's number, twice: whether a job takes it: it is not abandoned, or the chunk adds nothing to it


def _ago(seconds: float) -> ColumnElement[Any]:
    return func.now() - cast(f"{seconds} seconds", Interval)
