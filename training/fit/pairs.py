"""Pairs of images: for every image one partner that shows the same digit and one that shows another.

It must not know Keras, nor the images: labels are enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from training.arrays import AnyArray, Float32, Int64
from training.errors import DataError


class Pairs(NamedTuple):
    """Positions (2n,) of the two twins of each pair, and `same` (2n, 1): 1 same digit, 0 different digits."""

    one: Int64
    other: Int64
    same: Float32


def draw_pairs(labels: AnyArray, rng: np.random.Generator) -> Pairs:
    """For every label of (n,) a same and a different pair, in random order.

    The partner is drawn evenly: from the images of the same label (which may draw the image itself), or from all the
    others. Raises DataError if there is only one class.
    """
    count = len(labels)
    order = np.argsort(labels, kind="stable")  # images grouped by class
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError("pairs of different digits need at least two classes, and these labels have one")
    starts = np.cumsum(sizes) - sizes
    start, size = starts[classes], sizes[classes]
    same_partner = order[start + (rng.random(count) * size).astype(np.int64)]
    # The others are what follows a class's group, around the end: any offset past the group misses it.
    other_partner = order[(start + size + (rng.random(count) * (count - size)).astype(np.int64)) % count]
    one = np.tile(np.arange(count), 2)
    other = np.concatenate([same_partner, other_partner])
    same = np.repeat(np.array([1, 0], np.float32), count)
    shuffled = rng.permutation(2 * count)
    return Pairs(one[shuffled], other[shuffled], same[shuffled, None])
