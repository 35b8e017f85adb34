"""Stored vectors that are computed again of the stored pixels, in this process. It must not know what follows of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from db import digits
from db.vectors import compared
from worker.runtime import Runtime

Array = np.ndarray[Any, Any]


class Recomputed(NamedTuple):
    """How many vectors were, and by how much any number differed at most; None where one was not finite."""

    digits: int
    worst: float | None


def recompute(tower: int, count: int, runtime: Runtime, *, seed: int) -> Recomputed:
    """Of some digits from all over the store, always the same ones with a seed. Raises what loading the tower does."""
    embed = runtime.towers[tower]
    ids, stored, pixels = runtime.transact(_sample, tower, count, seed)
    if not len(ids):
        return Recomputed(0, 0.0)
    worst = float(np.abs(embed(pixels) - stored).max())
    return Recomputed(len(ids), worst if np.isfinite(worst) else None)


def _sample(session: Session, tower: int, count: int, seed: int) -> tuple[Array, Array, Array]:
    """ids (n,), vectors (n, 128) float32 and pixels (n, 784) uint8."""
    ids = compared.some_digits(session, tower, count, seed=seed)
    glyphs = digits.pixels_of(session, ids) if ids else None
    if glyphs is None or not len(glyphs.ids):
        return np.empty(0, np.int64), np.empty((0, 128), np.float32), np.empty((0, 784), np.uint8)
    there = compared.both(session, [tower], glyphs.ids.tolist())
    return there.ids, there.vectors[tower], glyphs.pixels[np.isin(glyphs.ids, there.ids)]
