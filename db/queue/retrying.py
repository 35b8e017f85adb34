"""Failures whose picture may be sent again, over all jobs. It must not send them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Interval, cast, exists, func, select, tuple_
from sqlalchemy.orm import Session

from db.queue.failures import fitting
from db.tables import Digit, Failure, Job

GAVE_WAY = ("superseded", "duplicate_key", "deleted")  # the key is another picture's now, or was to go


class Retriable(NamedTuple):
    """A failure, and the collection of its job."""

    created_at: datetime
    job: uuid.UUID
    key: str
    reason: str
    collection: str
    is_glyph: bool
    label: int | None
    attributes: dict[str, Any] | None
    picture: bytes


class Page(NamedTuple):
    """after: where the next one begins; None where there is none."""

    failures: list[Retriable]
    after: str | None


def collections(session: Session, *, reason: str | None, since: float | None) -> list[str]:
    """Those with failures that a filter passes, by name."""
    query = select(Job.collection).join(Failure, Failure.job == Job.id).where(*_passes(reason, since))
    found = session.execute(query.distinct().order_by(Job.collection)).scalars()
    return [name for name in found if name is not None]


def page(
    session: Session, collection: str, *, reason: str | None, since: float | None, after: str | None, limit: int
) -> Page:
    """Failures of a collection that a filter passes, oldest first.

    limit: how many at most; fewer where their pictures are large. since: seconds. after: of a page before. Raises
    ValueError, TypeError where that is none.
    """
    place = (Failure.created_at, Failure.job, Failure.key, Failure.reason)
    passes = [Job.collection == collection, *_passes(reason, since)]
    if after is not None:
        passes.append(tuple_(*place) > tuple_(*_place(after)))

    def first(count: int, *columns: Any) -> Sequence[Any]:
        query = select(*columns).join(Job, Job.id == Failure.job).where(*passes).order_by(*place).limit(count)
        return session.execute(query).all()

    sizes = [size for (size,) in first(limit, func.octet_length(Failure.picture))]  # the length alone is read
    fit = fitting(sizes)
    described = (Job.collection, Failure.is_glyph, Failure.label, Failure.attributes, Failure.picture)
    found = [Retriable(*row) for row in first(fit, *place, *described)]
    return Page(found, _cursor(found[-1]) if found and (fit < len(sizes) or len(sizes) == limit) else None)


def _passes(reason: str | None, since: float | None) -> list[ColumnElement[bool]]:
    """Whether a failure kept its picture, its key has got no digit since, and it has the reason, where one is named."""
    got_since = exists(
        select(Digit.id).where(
            Digit.collection == Job.collection, Digit.key == Failure.key, Digit.created_at > Failure.created_at
        )
    )
    passes = [Failure.picture.isnot(None), Failure.reason.not_in(GAVE_WAY), Job.pruned_at.is_(None), ~got_since]
    if reason is not None:
        passes.append(Failure.reason == reason)
    if since is not None:
        passes.append(Failure.created_at > func.now() - cast(f"{since} seconds", Interval))
    return passes


def _cursor(last: Retriable) -> str:
    return json.dumps([last.created_at.isoformat(), str(last.job), last.key, last.reason], ensure_ascii=False)


def _place(after: str) -> tuple[datetime, uuid.UUID, str, str]:
    at, job, key, reason = json.loads(after)
    return datetime.fromisoformat(at), uuid.UUID(job), str(key), str(reason)
