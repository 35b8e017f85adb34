"""Pairs of images: for every image one partner that shows the same digit and one that shows another.

It must not know Keras, nor the images: labels are enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from training.arrays import AnyArray, Bool, Float32, Int64
from training.errors import DataError

JUDGED_SHARE = 0.05  # of all pairs that judged ones come to, where they are repeated often enough
MOST_REPEATS = 20


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


def with_judged(pairs: Pairs, judged_same: Bool, *, at: int) -> Pairs:
    """The drawn pairs, then (p,) judged ones, whose images stand from position `at` on: p of the one, p of the other.

    Each is repeated: a pair among a hundred thousand would weigh nothing.
    """
    count = len(judged_same)
    times = int(np.clip(JUDGED_SHARE * len(pairs.one) / count, 1, MOST_REPEATS))
    one = np.tile(np.arange(at, at + count), times)
    same = np.tile(judged_same.astype(np.float32), times)[:, None]
    return Pairs(
        np.concatenate([pairs.one, one]),
        np.concatenate([pairs.other, one + count]),
        np.concatenate([pairs.same, same]),
    )
