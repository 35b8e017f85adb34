"""How unlike MNIST's digits a glyph is: what tells a digit from a shadow, a frame or two digits.

It chooses between readings of one picture, where no tower is at hand. It knows arrays alone.

Each class is a Gaussian in 14x14 levels, whose variance is full along 16 directions and the same along all others
(probabilistic principal components, Tipping and Bishop, 1999). `benchmarks/likeness.py` writes the file from MNIST's
training digits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from training.arrays import SIDE, Float32, Uint8

FILE = Path(__file__).with_name("likeness.npz")
HALF = SIDE // 2


class Classes(NamedTuple):
    """means: (10, 196). axes: (10, 16, 196). variances: (10, 16), along the axes. rest: (10,), along any other."""

    means: Float32
    axes: Float32
    variances: Float32
    rest: Float32


@cache
def classes() -> Classes:
    with np.load(FILE) as stored:
        axes = stored["axes"].astype(np.float32)
        axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
        return Classes(stored["means"].astype(np.float32) / np.float32(255), axes, stored["variances"], stored["rest"])


def unlikeness(glyphs: Uint8) -> Float32:
    """(n, 28, 28) uint8 -> (n,): the squared distance from the nearest class in its own deviations, a dimension.

    Half of MNIST's test digits have less than 0.84, 95 % less than 1.8.
    """
    means, axes, variances, rest = classes()
    apart = features(glyphs)[:, None] - means  # (n, 10, 196)
    along = np.square(axes @ apart[..., None])[..., 0]  # (n, 10, 16)
    beside = np.maximum(np.square(apart).sum(axis=-1) - along.sum(axis=-1), 0)
    distances = ((along / variances).sum(axis=-1) + beside / rest) / (HALF * HALF)
    return cast(Float32, distances.min(axis=1))


def features(glyphs: Uint8) -> Float32:
    """(n, 28, 28) uint8 -> (n, 196) in 0..1: the square roots of means of 2x2 pixels, whose noise is even."""
    means = glyphs.reshape(-1, HALF, 2, HALF, 2).mean(axis=(2, 4), dtype=np.float32)
    roots: Float32 = np.sqrt(means / np.float32(255)).reshape(-1, HALF * HALF)
    return roots
