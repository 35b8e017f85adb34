"""The tower that a fleet starts with."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Engine

from db.engine import transact
from db.vectors import lifecycle
from tests.makers import trained


def register(engine: Engine, *, real: bool = False) -> int:
    """Register a tower in a fresh ledger; its id. It is live at once."""
    tower = replace(trained("stand-in"), **(real_tower() if real else {}))
    return int(transact(engine, lifecycle.register, tower).id)


def real_tower(seed: int = 1) -> dict[str, Any]:
    """What is special of the notebook's tower with seeded weights: as costly as a trained one."""
    from training.model.folding import folded  # noqa: PLC0415  # TensorFlow, for two cases only
    from training.model.siamese import build_network  # noqa: PLC0415
    from training.model.storage import fingerprint, save  # noqa: PLC0415
    from training.recipes import RECIPES  # noqa: PLC0415

    tower = folded(build_network(RECIPES["notebook"], seed=seed))
    return {"fingerprint": fingerprint(tower), "file": save(tower)}
