"""How unlike the glyphs of some classes a glyph is: what tells a digit from a shadow, a frame or two digits.

Of MNIST's digits it chooses between readings of one picture, where no tower is at hand; a tower's gate (`fit.gate`) has
the classes that the tower was trained on. It knows arrays alone.

Each class is a Gaussian in 14x14 levels, whose variance is full along 16 directions and the same along all others
(probabilistic principal components, Tipping and Bishop, 1999). `benchmarks/likeness.py` writes the file from MNIST's
training digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from training.arrays import SIDE, Float32, Float64, Uint8

FILE = Path(__file__).with_name("likeness.npz")
HALF = SIDE // 2
AXES = 16
LEAST_VARIANCE = 1e-6  # of levels in 0..1


class Classes(NamedTuple):
    """Of c classes. means: (c, 196). axes: (c, AXES, 196), orthonormal. variances: (c, AXES), along the axes. rest:
    (c,), along any other."""

    means: Float32
    axes: Float32
    variances: Float32
    rest: Float32

    @classmethod
    def fit(cls, classes: Iterable[Float32]) -> Classes:
        """What glyphs are like, class by class. classes: the `features` of each, (n, 196), n at least 1."""
        parts = zip(*map(_spread, classes), strict=True)
        return cls(*(np.stack(part).astype(np.float32) for part in parts))

    def unlikeness(self, levels: Float32, which: int | slice = slice(None)) -> Float32:
        """(n, 196) -> (n,), of one class, or (n, c): the squared distance to the mean in the class's own deviations, a
        dimension."""
        apart = levels - self.means[which] if isinstance(which, int) else levels[:, None] - self.means[which]
        along = np.square(self.axes[which] @ apart[..., None])[..., 0]
        beside = np.maximum(np.square(apart).sum(axis=-1) - along.sum(axis=-1), 0)
        found = (along / self.variances[which]).sum(axis=-1) + beside / self.rest[which]
        return cast(Float32, found / levels.shape[1])


@cache
def classes() -> Classes:
    with np.load(FILE) as stored:
        axes = stored["axes"].astype(np.float32)
        axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
        return Classes(stored["means"].astype(np.float32) / np.float32(255), axes, stored["variances"], stored["rest"])


class Folded(NamedTuple):
    """The same classes for one glyph in a few steps, what is divided by variances and dimensions divided before.

    along: (c * AXES, 197), how far from the mean along each axis, times the root of what its square counts less than
    beside. apart: (c, 197), what the distance to a mean adds to the glyph's own square. In both the last number is what
    a glyph of zeros has. rest: (c,), what that square counts.
    """

    along: Float32
    apart: Float32
    rest: Float32

    @classmethod
    def of(cls, classes: Classes) -> Folded:
        size = classes.means.shape[1]
        less = np.reciprocal(classes.rest)[:, None] - np.reciprocal(classes.variances)
        axes = classes.axes * np.sqrt(np.maximum(less, 0) / size)[..., None]
        at = np.einsum("cad,cd->ca", axes, classes.means)
        rest = np.reciprocal(classes.rest * size)
        squares = np.square(classes.means).sum(axis=1)
        along = np.concatenate([axes, -at[..., None]], axis=-1).reshape(-1, size + 1)
        apart = np.concatenate([-2 * classes.means, squares[:, None]], axis=1) * rest[:, None]
        return cls(along, apart, rest)

    def unlikeness(self, levels: Float32) -> float:
        """(196,) -> of the nearest class."""
        with_one = np.append(levels, np.float32(1))
        along = (self.along @ with_one).reshape(len(self.rest), AXES)
        found = self.apart @ with_one + self.rest * (levels @ levels) - np.einsum("ca,ca->c", along, along)
        return float(found.min())


@cache
def folded() -> Folded:
    return Folded.of(classes())


def unlikeness(glyphs: Uint8) -> Float32:
    """(n, 28, 28) uint8 -> (n,): the squared distance from the nearest class in its own deviations, a dimension.

    Half of MNIST's test digits have less than 0.84, 95 % less than 1.8.
    """
    return np.array([folded().unlikeness(each) for each in features(glyphs)], np.float32)


def features(glyphs: Uint8) -> Float32:
    """(n, 784) uint8 in any form -> (n, 196) in 0..1: the square roots of means of 2x2 pixels, whose noise is even."""
    pairs = glyphs.reshape(-1, 2, SIDE)
    lines = np.add(pairs[:, 0], pairs[:, 1], dtype=np.uint16)
    sums = lines[:, ::2] + lines[:, 1::2]
    roots: Float32 = np.sqrt(sums / np.float32(4 * 255)).reshape(-1, HALF * HALF)
    return roots


def _spread(levels: Float32) -> tuple[Float64, Float64, Float64, Float64]:
    """(n, 196) -> their mean (196,), AXES directions of most variance (AXES, 196), it, and the mean of the rest's."""
    mean = levels.mean(axis=0, dtype=np.float64)
    apart = levels - mean
    variances, directions = np.linalg.eigh(apart.T @ apart / max(1, len(levels) - 1))
    variances = np.maximum(variances, LEAST_VARIANCE)
    return mean, directions[:, -AXES:].T, variances[-AXES:], variances[:-AXES].mean()
