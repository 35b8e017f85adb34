"""Which digits a job brought or found: the ids in its batches. It must not know what becomes of them."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy.orm import Session

from db.bulk import fetch
from db.errors import UnknownJob

_TOGETHER = 64  # batches that a page looks at: small ones hold one digit each


def page(session: Session, job: uuid.UUID, *, after: int, limit: int) -> tuple[list[int], int | None]:
    """The ids of the digits in a job's batches after the batch `after`, and the batch up to which these are all; None
    where none follows.

    About `limit` ids, but those of one batch at least. Digits that the job found stored with the same pixels are among
    them. An id that stands in two batches comes with both. Raises UnknownJob.
    """
    if not fetch(session, "SELECT FROM jobs WHERE id = %s AND pruned_at IS NULL", [job]):
        raise UnknownJob(f"no job has the id {job}")
    batches = fetch(
        session,
        f"""
        SELECT id, digits || coalesce(unchanged_digits, '{{}}') FROM batches
        WHERE id IN (
            SELECT id FROM batches WHERE job = %s AND id > %s AND state <> 'split' ORDER BY id LIMIT {_TOGETHER}
        )
        ORDER BY id
        """,
        [job, after],
    )
    found: list[Any] = []
    for at, (batch, ids) in enumerate(batches, 1):
        found += ids
        if len(found) >= limit or at == _TOGETHER:
            return found, batch
    return found, None
