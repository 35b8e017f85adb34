"""Pairs of pictures: for every picture one partner that shows the same digit and one that shows another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from training.errors import DataError

Array = np.ndarray[Any, Any]


class Pairs(NamedTuple):
    """Positions (2n,) int64 of the two twins of each pair, and `different` (2n, 1) float32: 0 same, 1 different."""

    one: Array
    other: Array
    different: Array


def draw_pairs(labels: Array, rng: np.random.Generator) -> Pairs:
    """For every label of (n,) a same and a different pair, in random order.

    The partner is drawn evenly, from the pictures of the same label (which may draw the picture itself), or from all
    the others. Raises DataError where there is one class only.
    """
    count = len(labels)
    order = np.argsort(labels, kind="stable")  # pictures grouped by class
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError("pairs of different digits need at least two classes, and these labels have one")
    starts = np.cumsum(sizes) - sizes
    start, size = starts[classes], sizes[classes]
    same = order[start + (rng.random(count) * size).astype(np.int64)]
    # The others are what follows a class's group, around the end: any offset past the group misses it.
    different = order[(start + size + (rng.random(count) * (count - size)).astype(np.int64)) % count]
    one = np.tile(np.arange(count), 2)
    other = np.concatenate([same, different])
    is_different = np.repeat(np.array([0, 1], np.float32), count)
    shuffled = rng.permutation(2 * count)
    return Pairs(one[shuffled], other[shuffled], is_different[shuffled, None])
