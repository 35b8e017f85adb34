"""Which stored digits a tower was trained on, alone or in a judged pair. It must not know how one is trained.

It is known of a tower until its file is pruned, after which nothing is left of what it learnt.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.bulk import cursor, fetch
from db.tables import Learnt

_NOTE = """
    INSERT INTO learnt (tower, digit) SELECT %s, unnest(digits || pairs) FROM checkpoints WHERE job = %s
    ON CONFLICT DO NOTHING
"""
_UNDER_WAY = """
    SELECT job FROM checkpoints
    WHERE EXISTS (SELECT FROM unnest(digits || pairs) AS material (digit) JOIN unnest(%s::bigint[]) AS asked (digit)
        USING (digit))
"""


class Learners(NamedTuple):
    """What has learnt from some digits: towers, by id, and the trainings under way, by job."""

    towers: list[int]
    trainings: list[uuid.UUID]


def note(session: Session, tower: int, job: uuid.UUID) -> None:
    """Keep what a training learns from, as its row of `checkpoints` says, for its tower."""
    with cursor(session, _NOTE) as driver:
        driver.execute(_NOTE, [tower, job])


def learners(session: Session, digits: Sequence[int]) -> Learners:
    """Which towers and trainings have learnt from one of these digits."""
    towers = select(Learnt.tower).where(Learnt.digit == func.any(list(digits))).distinct().order_by(Learnt.tower)
    trainings = fetch(session, _UNDER_WAY, [list(digits)])
    return Learners(list(session.execute(towers).scalars()), [job for (job,) in trainings])
