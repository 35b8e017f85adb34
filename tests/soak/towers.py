"""What the live tower makes of pixels, computed here: what the stored vectors are compared with."""

from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from tests.chaos.oracle import Reference
from training.model.embedder import Embedder
from training.model.storage import load

Array = np.ndarray[Any, Any]


def embedded(engine: Engine) -> Reference:
    """The live tower of a ledger as a function of (its id, pixels)."""
    with engine.connect() as connection:
        row = connection.execute(text("SELECT id, file FROM towers WHERE status = 'live'")).one()
    embedder = Embedder(load(row.file))

    def reference(tower: int, pixels: Array) -> Array:
        assert tower == row.id, f"tower {tower} went live, after tower {row.id}"
        return np.asarray(embedder(pixels), np.float32)

    return reference
