"""Ask a tower's gate which pictures look like what it was trained on. It must not know what becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.states import TowerStatus
from db.tables import Tower
from db.vectors.frames import Remembered
from training.fit.gate import Gate

GATES = Remembered("gate", Gate.from_bytes)


def of_live(session: Session) -> tuple[int, Gate] | None:
    """The live tower and its gate; None where none is live, or it was trained before towers had one."""
    tower = session.execute(select(Tower.id).where(Tower.status == TowerStatus.LIVE)).scalar()
    gate = None if tower is None else GATES.of(session, tower)
    return None if tower is None or gate is None else (tower, gate)


def doubts(gate: Gate | None, glyphs: Mapping[int, Any], vectors: Sequence[Any]) -> list[bool | None]:
    """Of each vector whether the glyph that it was made of, (784,) uint8 by its place, is doubtful; None where it was
    made of none, or no gate can be asked."""
    found: list[bool | None] = [None] * len(vectors)
    if gate is not None and glyphs:
        places = list(glyphs)
        asked = gate.doubts(np.stack([glyphs[at] for at in places]), np.stack([vectors[at] for at in places]))
        for at, doubtful in zip(places, asked.tolist(), strict=True):
            found[at] = doubtful
    return found
