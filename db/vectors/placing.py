"""Places vectors in their tower's frame that a version before stored without a place. It must not know the queue."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from db import locks
from db.bulk import fetch, sent_vectors
from db.tables import Tower
from db.vectors import embeddings
from db.vectors.filters import described
from db.vectors.frame import UNPLACED, Frame
from db.vectors.frames import FRAMES
from db.vectors.towers import is_maintained

AT_ONCE = 2_000  # vectors placed in a transaction
SAMPLE = 20_000  # vectors that a frame is fitted to
FEWEST = 1_000  # of a smaller store no frame is fitted: all of it is compared in a millisecond


def place_some(session: Session) -> int:
    """Place some vectors under a tower that is maintained; how many. A tower without a frame gets one first.

    They are written anew, in one transaction: a search sees each of them in its old row or in its new one.
    """
    session.execute(text("SET LOCAL enable_seqscan = off"))  # the planner expects none of them, or nothing else
    for tower in session.execute(select(Tower.id).where(is_maintained())).scalars().all():
        query = f"""
            SELECT digit FROM embeddings
            WHERE tower = {tower} AND cell = {UNPLACED} AND small IS NULL LIMIT {AT_ONCE}
        """
        digits = [id for (id,) in fetch(session, query)]
        if digits and (FRAMES.of(session, tower) is not None or _fit(session, tower)):
            return _write_again(session, tower, digits)
    return 0


def _write_again(session: Session, tower: int, digits: list[int]) -> int:
    locks.hold_digits(session)
    query = "DELETE FROM embeddings WHERE tower = %s AND digit = ANY(%s::bigint[]) RETURNING digit, vector"
    rows = sorted(fetch(session, query, (tower, digits)))
    ids = np.array([id for id, _ in rows], np.int64)
    vectors = sent_vectors([vector for _, vector in rows])
    stored = described(session, ids)
    embeddings.write(session, tower, stored, vectors[np.isin(ids, stored.digits)])
    return len(rows)


def _fit(session: Session, tower: int) -> bool:
    """Fit a frame to stored vectors, and store it; False where there are too few."""
    count = embeddings.count(session, tower)
    if count < FEWEST:
        return False
    step = -(-count // SAMPLE)
    query = "SELECT vector FROM embeddings WHERE tower = %s AND digit %% %s = 0"
    sample = sent_vectors([vector for (vector,) in fetch(session, query, (tower, step))])
    if len(sample) < FEWEST:  # ids that are all odd, for instance
        sample = sent_vectors([vector for (vector,) in fetch(session, f"{query} LIMIT {SAMPLE}", (tower, 1))])
    session.execute(update(Tower).where(Tower.id == tower).values(frame=Frame.fit(sample).to_bytes()))
    return True
