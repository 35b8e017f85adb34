"""Stands where `worker.tower_cache` does: needs no TensorFlow, so a process starts in the time that Celery takes."""

import time
from functools import partial
from typing import Any

from matrix import Array, product
from sitecustomize import DEADLY, FOLDER, die


class TowerCache:
    """As `worker.tower_cache.TowerCache`, of matrix products."""

    def __init__(self, transact: Any, *, in_bulk: bool = False) -> None:
        pass

    def __getitem__(self, id: int) -> Any:
        return partial(embed, id)

    def known_as(self, id: int, fingerprint: str) -> Any:
        return self[id]

    def warm_up(self) -> None:
        """Nothing to load."""

    def prepare(self, id: int) -> bool:
        """Nothing to load."""
        return True


def embed(tower: int, pixels: Array) -> Array:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 128) float32, in the time that the case wants; dies of a deadly picture."""
    dawdle()
    if any(DEADLY[:20] in glyph.tobytes() for glyph in pixels.reshape(-1, 784)):
        die("tower")
    return product(tower, pixels)


def dawdle() -> None:
    try:
        seconds = float((FOLDER / "tower-seconds").read_text())
    except FileNotFoundError:
        return
    time.sleep(seconds)
