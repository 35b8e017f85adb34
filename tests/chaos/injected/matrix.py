"""The stand-in tower: one matrix product. Its weights are made from its id: the id gives every vector.

Every tower is as good as the next: each turns the same space in a way of its own, so that all have the same distances,
and a vector of one lies nowhere near its digit's under another.
"""

from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@cache
def weights(tower: int) -> Array:
    """(784, 128) float32 that give vectors of the order of 1."""
    space = np.random.default_rng(0).standard_normal((784, 128)) / (255 * 28)
    turn = np.linalg.qr(np.random.default_rng(tower).standard_normal((128, 128))).Q
    turned: Array = (space @ turn).astype(np.float32)
    return turned


def product(tower: int, pixels: Array) -> Array:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 128) float32."""
    return pixels.reshape(-1, 784).astype(np.float32) @ weights(tower)
