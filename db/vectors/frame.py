"""The frame of a tower's space: what proves most vectors to be farther from a query than its nearest, unread.

A contrastive tower's space is nearly flat: a few principal directions and the length of what they leave over, the
*small vector* of a vector, bound every distance from below. The small vectors lie in *regions*, the Voronoi cells of
some centroids, and those of a region in its *cells*, likewise; a query's distance to a whole cell is bounded as well. A
frame is fitted once, to vectors of training images, and never changes: it belongs to its tower like the threshold. It
must not know SQL.

A bound must hold for what is stored, so rounding is part of it; the derivations stand beside the sums. u is float32's
unit roundoff, 2^-24, and a sum of n products in float32 is off by at most n u / (1 - n u) of the sum of their
magnitudes, in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

UNPLACED = -1  # the cell of a vector without a small vector: it is compared with every query
MOST_DIRECTIONS = 14
EXPLAINED = 0.9999  # of the variance: no more directions are taken than that needs
REGIONS = 64
CELLS = 48  # of a region
SAMPLES = 16  # of the sample for each cell, on average, or there are fewer cells
ROUNDS = 8  # of k-means
BLOCK = 128  # vectors that are multiplied at a time: of more, BLAS makes work for threads, which wait for busy cores
LARGE = 1e15  # numbers from here on are not placed: a square of float32 ends at 3e38
DIGEST_BYTES = 16

_U = 2.0**-24
_TINY = 1e-18  # more than underflow takes from a distance: sqrt(128 x 1.4e-45)


class Pruning(NamedTuple):
    """What a search in a store of `of` vectors would look at, at the median. read: small vectors. compared: vectors."""

    of: int
    read: int
    compared: int


@dataclass(frozen=True, eq=False)
class Frame:
    """mean: (d,) float64. directions: (d, r) float64, orthonormal columns.

    regions: (g, r + 1) float32, centroids. cells: (c, r + 1) float32, centroids, region by region. starts: (g + 1,)
    int32, where each region's cells begin. shares: (c,) float32, of the sample by cell; they add up to 1.
    """

    mean: Array
    directions: Array
    regions: Array
    cells: Array
    starts: Array
    shares: Array

    @classmethod
    def fit(cls, sample: Array, *, seed: int = 0) -> Frame:
        """The frame of a space, from vectors (n, d) float32 in it, n at least 1, all finite."""
        points = sample.astype(np.float64)
        mean = points.mean(axis=0)
        points -= mean
        variances, directions = np.linalg.eigh(points.T @ points)
        variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]  # the largest first
        needed = int(np.searchsorted(np.cumsum(variances), EXPLAINED * variances.sum())) + 1
        directions = np.ascontiguousarray(directions[:, : min(needed, MOST_DIRECTIONS)])
        small, rng = _small(points, directions), np.random.default_rng(seed)
        regions = _centroids(small, min(REGIONS, len(small) // (CELLS * SAMPLES)), rng)
        used, of = np.unique(_nearest(small, Scores.of(regions)), return_inverse=True)
        regions = regions[used]
        groups = [small[of == region] for region in range(len(regions))]
        cells = [_centroids(group, min(CELLS, len(group) // SAMPLES), rng) for group in groups]
        starts = np.cumsum([0, *map(len, cells)], dtype=np.int32)
        sizes = [
            np.bincount(_nearest(group, Scores.of(own)), minlength=len(own))
            for group, own in zip(groups, cells, strict=True)
        ]
        shares = (np.concatenate(sizes) / len(small)).astype(np.float32)
        return cls(mean, directions, regions, np.concatenate(cells), starts, shares)

    def place(self, vectors: Array) -> tuple[Array, Array]:
        """The cells (n,) int16 and small vectors (n, r + 1) float32 of vectors (n, d) float32.

        The cell is UNPLACED, and the small vector zero, where its numbers are too large to be squared.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            small = _small(vectors, self.directions, mean=self.mean)
        unplaced = ~(np.abs(small) < LARGE).all(axis=1)
        if unplaced.any():
            small[unplaced] = 0
        of = _nearest(small, self.wide_scores)
        order = np.argsort(of.astype(np.uint8), kind="stable")
        by_region, found = small[order], np.empty(len(vectors), np.intp)
        ends = np.cumsum(np.bincount(of, minlength=len(self.regions))).tolist()
        for start, end, first, scores in zip([0, *ends], ends, self.starts.tolist(), self.narrow_scores, strict=False):
            if end > start:
                found[start:end] = first + _nearest(by_region[start:end], scores)
        cells = np.empty(len(vectors), np.int16)
        cells[order] = found
        cells[unplaced] = UNPLACED
        return cells, small

    def view(self, query: Array) -> View:
        """How a query (d,) lies in the frame, float32 or float64."""
        exact = query.astype(np.float64)
        small = _small(exact[None], self.directions, np.float64, mean=self.mean)[0]
        return View(self, small, float(np.linalg.norm(exact) + np.linalg.norm(self.mean)))

    def pruning(self, vectors: Array, *, neighbours: int = 10, queries: int = 100) -> Pruning:
        """How well it excludes: of vectors (n, 128) float32, for the neighbours of some of them, themselves left out.

        Measured by the bound that is known once they are found; a search compares some more to find a bound first.
        """
        cells, small = self.place(vectors)
        sizes = np.bincount(cells[cells != UNPLACED], minlength=len(self.cells))
        read, compared, last = [], [], min(neighbours, len(vectors) - 1)
        for at in np.linspace(0, len(vectors) - 1, min(queries, len(vectors))).astype(int):
            distances = np.linalg.norm(vectors - vectors[at], axis=1)
            farthest = float(np.partition(distances, last)[last])
            view = self.view(vectors[at])
            within = view.cells_within(farthest)
            rows = np.isin(cells, within)
            near = np.linalg.norm(small[rows] - view.small, axis=1) <= view.small_bound(farthest)
            read.append(int(sizes[within].sum()))
            compared.append(int(near.sum()))
        return Pruning(len(vectors), int(np.median(read)), int(np.median(compared)))

    def to_bytes(self) -> bytes:
        """As it is stored: a digest of the rest, its sizes, its arrays."""
        sizes = struct.pack("<4i", *self.directions.shape, len(self.regions), len(self.cells))
        rest = sizes + b"".join(
            array.astype(array.dtype.newbyteorder("<")).tobytes()
            for array in (self.mean, self.directions, self.regions, self.cells, self.starts, self.shares)
        )
        return hashlib.sha256(rest).digest()[:DIGEST_BYTES] + rest

    @classmethod
    def from_bytes(cls, stored: bytes) -> Frame:
        """Raises ValueError where these are not the bytes of a frame."""
        if hashlib.sha256(stored[DIGEST_BYTES:]).digest()[:DIGEST_BYTES] != stored[:DIGEST_BYTES]:
            raise ValueError("these are not the bytes of a frame: their digest is another")
        d, r, g, c = struct.unpack_from("<4i", stored, DIGEST_BYTES)
        shapes = (
            ("<f8", (d,)),
            ("<f8", (d, r)),
            ("<f4", (g, r + 1)),
            ("<f4", (c, r + 1)),
            ("<i4", (g + 1,)),
            ("<f4", (c,)),
        )
        at, arrays = DIGEST_BYTES + struct.calcsize("<4i"), []
        for kind, shape in shapes:
            arrays.append(np.frombuffer(stored, kind, int(np.prod(shape)), at).reshape(shape).astype(kind[1:]))
            at += arrays[-1].nbytes
        return cls(*arrays)

    @cached_property
    def radius(self) -> float:
        """The largest length of a centroid."""
        return float(max(np.linalg.norm(each.astype(np.float64), axis=1).max() for each in (self.regions, self.cells)))

    @cached_property
    def wide_scores(self) -> Scores:
        """Of the regions."""
        return Scores.of(self.regions)

    @cached_property
    def narrow_scores(self) -> list[Scores]:
        """Of each region's cells."""
        return [Scores.of(self.cells[start:stop]) for start, stop in pairwise(self.starts.tolist())]

    @cached_property
    def wide(self) -> Partition:
        """The regions, as one set of Voronoi cells."""
        return Partition.of(self.regions[None])

    @cached_property
    def narrow(self) -> Partition:
        """The cells, as a set of Voronoi cells for each region."""
        most = int(np.diff(self.starts).max())
        # Where a region has fewer cells its last one stands again, which excludes nothing.
        index = np.minimum(self.starts[:-1, None] + np.arange(most), self.starts[1:, None] - 1)
        return Partition.of(self.cells[index])

    @cached_property
    def places(self) -> Array:
        """(g, most) bool: which places of `narrow` are cells, in their order."""
        sizes = np.diff(self.starts)
        placed: Array = np.arange(sizes.max()) < sizes[:, None]
        return placed


@dataclass(frozen=True, eq=False)
class Partition:
    """Sets of Voronoi cells. points: (g, m, r + 1) float64, their centroids. between: (g, m, m), their distances."""

    points: Array
    between: Array

    @classmethod
    def of(cls, centroids: Array) -> Partition:
        points = centroids.astype(np.float64)
        return cls(points, np.linalg.norm(points[:, :, None] - points[:, None], axis=-1))

    def within(self, small: Array, reach: float, off: float, sets: Array | slice = slice(None)) -> Array:
        """(g, m) bool: which cells, of some of the sets, may hold a stored small vector within `reach` of this one.

        A small vector x in the cell of centroid c has, as computed, the least score |c|^2 / 2 - c.x of its set. A score
        is off by at most `off`, so |x - c|^2 <= |x - o|^2 + 4 off for each other centroid o: a half-space, and its
        distance to a query s is (|s - c|^2 - |s - o|^2 - 4 off) / (2 |c - o|).
        """
        squares = np.square(self.points[sets] - small).sum(axis=2)
        beyond = squares[:, :, None] - squares[:, None] - 4 * off
        inside: Array = (beyond <= 2 * reach * (1 + 1e-9) * self.between[sets]).all(axis=2)
        return inside


@dataclass(frozen=True, eq=False)
class View:
    """A query in a frame. small: (r + 1,) float64. away: |query| + |mean|."""

    frame: Frame
    small: Array
    away: float

    @property
    def is_usable(self) -> bool:
        """Whether bounds can be computed: not where the query's numbers are too large."""
        return bool((np.abs(self.small) < LARGE).all())

    def nearest_cells(self, count: int | None = None) -> Array:
        """So many cells, or all of them, int16, in the order of their centroids' distances."""
        away = self.frame.cells - self.small
        squares = np.einsum("ij,ij->i", away, away)
        if count is None or count >= len(squares):
            return np.argsort(squares).astype(np.int16)
        nearest = np.argpartition(squares, count)[:count]
        return nearest[np.argsort(squares[nearest])].astype(np.int16)

    def small_bound(self, farthest: float) -> float:
        """What `small <-> s`, as the database computes it, does not exceed for any vector within `farthest`."""
        return (self._moved(farthest) + _U * self._length) * (1 + 4 * (len(self.small) + 4) * _U) + _TINY

    def cells_within(self, farthest: float) -> Array:
        """The cells, int16, that may hold a placed vector within a distance of the query."""
        frame, reach = self.frame, self._moved(farthest)
        # Of a score in float32; the stored small vector is as long as the query's and `reach` at most.
        terms = frame.radius * (self._length + reach) + frame.radius**2 / 2
        off = 2 * (len(self.small) + 3) * _U * terms + _TINY
        # And of the squares here: sums of r + 1 of them in float64, two in each difference, four times `off`.
        off += (len(self.small) + 2) * 2.0**-53 * (self._length + frame.radius) ** 2
        regions = np.flatnonzero(frame.wide.within(self.small, reach, off)[0])
        cells = np.zeros_like(frame.places)
        cells[regions] = frame.narrow.within(self.small, reach, off, regions)
        return np.flatnonzero(cells[frame.places]).astype(np.int16)

    def share(self, cells: Array) -> float:
        """The share of a store like the sample that these cells hold."""
        return float(self.frame.shares[cells].sum())

    @cached_property
    def _length(self) -> float:
        return float(np.linalg.norm(self.small))

    def _moved(self, farthest: float) -> float:
        """How far from the query's small vector the stored one of a vector within `farthest` can be.

        The map shrinks distances: |small(x) - small(q)| <= |x - q|. Rounding to float32 moves each number of small(x)
        by u of itself, so all of it by u |small(x)|, and |small(x)| <= |small(q)| + |x - q|. Before, in float64, sums
        of 128 products of numbers up to |x| + |mean| are off by 2^-53 x 128 of them, and there are two in a row.
        """
        return farthest + _U * (self._length + farthest) * (1 + 1e-6) + 1e-12 * (self.away + farthest) + _TINY


def _small(
    vectors: Array, directions: Array, kind: type[np.floating[Any]] = np.float32, *, mean: Array | float = 0.0
) -> Array:
    """(n, d), of which the mean is subtracted in float64 -> (n, r + 1) of a kind.

    The rest is subtracted first and measured then: as a difference of squares, |x|^2 - |A'x|^2, rounding swallows it.
    """
    small = np.empty((len(vectors), directions.shape[1] + 1), kind)
    for start in range(0, len(vectors), BLOCK):
        rows = vectors[start : start + BLOCK] - mean
        along = rows @ directions
        rows -= along @ directions.T
        small[start : start + BLOCK, :-1] = along
        small[start : start + BLOCK, -1] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return small


class Scores(NamedTuple):
    """Of centroids c of (n, r + 1): |c|^2 / 2 - c.x, the least for the one that is nearest to x.

    against: (r + 1, n) float32, -c. halves: (n,) float32, |c|^2 / 2.
    """

    against: Array
    halves: Array

    @classmethod
    def of(cls, centroids: Array) -> Scores:
        halves = np.square(centroids.astype(np.float64)).sum(axis=1) / 2
        return cls(np.ascontiguousarray(-centroids.T), halves.astype(np.float32))


def _nearest(small: Array, scores: Scores) -> Array:
    """(n,): the centroid nearest to each, by the least score, in float32."""
    nearest = np.empty(len(small), np.intp)
    for start in range(0, len(small), BLOCK):
        found = small[start : start + BLOCK] @ scores.against
        found += scores.halves
        found.argmin(axis=1, out=nearest[start : start + BLOCK])
    return nearest


def _centroids(small: Array, count: int, rng: np.random.Generator) -> Array:
    """At most so many centroids, and at least one, (c, r + 1) float32, by Lloyd's k-means."""
    centroids = small[rng.choice(len(small), max(count, 1), replace=False)]
    for _ in range(ROUNDS):
        of = _nearest(small, Scores.of(centroids))
        sizes = np.bincount(of, minlength=len(centroids))
        sums = np.column_stack([np.bincount(of, column, len(centroids)) for column in small.T])
        centroids = (sums[sizes > 0] / sizes[sizes > 0, None]).astype(np.float32)
    return centroids
