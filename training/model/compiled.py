"""A tower's file made ready to embed by Keras's backend. Importing this loads Keras, which takes seconds."""

from __future__ import annotations

from training.model.embedder import Embedder
from training.model.storage import fingerprint, load


def compiled(file: bytes, expected: str) -> Embedder | None:
    """The tower of a `.keras` file, compiled for every number of rows; None where its weights have another fingerprint.

    Raises TowerError as `storage.load` does.
    """
    tower = load(file)
    if fingerprint(tower) != expected:
        return None
    embedder = Embedder(tower)
    embedder.warm_up()
    return embedder
