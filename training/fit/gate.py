"""The gate: whether a picture that was made into a glyph looks like what its tower was trained on. NumPy alone.

A contrastive tower puts anything that it is shown beside some class. Two questions tell most of what is no digit, or
was read wrongly: does its vector lie as near to those of training images as a test image's does, and does its glyph
look like a training image of the class that the vector lies beside? Each has a limit that 98 of 100 test images keep.

The vectors of a class are stood for by centroids, and its glyphs by a Gaussian (`training/pictures/likeness.py`).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.arrays import AnyArray, Bool, Float32, Int64, Uint8
from training.pictures.likeness import Classes, features

PASSED = 0.98  # of the test images, by each of the limits
CENTROIDS = 150  # of a class
IMAGES = 20  # of a class for each of its centroids, or there are fewer
ROUNDS = 8  # of k-means
BLOCK = 128  # of more rows, BLAS makes work for threads, which wait for busy cores
DIGEST_BYTES = 16


@dataclass(frozen=True, eq=False)
class Gate:
    """What a tower's training images are like, class by class.

    centroids: (m, d) float32, of their vectors. beside: (m,) int32, the class of each. classes: what glyphs of them
    are like. limits: (2,) float32, the largest distance and the largest unlikeness that pass.
    """

    centroids: Float32
    beside: AnyArray
    classes: Classes
    limits: Float32

    @classmethod
    def fit(cls, images: Uint8, labels: AnyArray, vectors: Float32, held_out: Uint8, held_out_vectors: Float32) -> Gate:
        """images: (n, 28, 28) uint8 of classes `labels` (n,), with their vectors (n, d); and those of test images."""
        names, of = np.unique(labels, return_inverse=True)
        rows = [np.flatnonzero(of == at) for at in range(len(names))]
        centroids = [_centroids(vectors[those]) for those in rows]
        gate = cls(
            centroids=np.concatenate(centroids),
            beside=np.repeat(np.arange(len(names), dtype=np.int32), [len(each) for each in centroids]),
            classes=Classes.fit(features(images[those]) for those in rows),
            limits=np.full(2, np.inf, np.float32),
        )
        limits = np.quantile(gate.measure(held_out, held_out_vectors), PASSED, axis=1)
        return replace(gate, limits=limits.astype(np.float32))

    def doubts(self, glyphs: Uint8, vectors: Float32) -> Bool:
        """(n, 28, 28) or (n, 784) uint8, and their vectors (n, d) -> (n,): which ones do not pass."""
        distance, unlikeness = self.measure(glyphs, vectors)
        doubted: Bool = (distance > self.limits[0]) | (unlikeness > self.limits[1])
        return doubted

    def measure(self, glyphs: Uint8, vectors: Float32) -> Float32:
        """(2, n): the distance of each vector to the nearest centroid, and the unlikeness of its glyph to that class.

        Unlikeness: as `Classes` has it.
        """
        measured = np.empty((2, len(vectors)), np.float32)
        halves = np.square(self.centroids).sum(axis=1) / 2
        for start in range(0, len(vectors), BLOCK):
            rows = slice(start, start + BLOCK)
            scores = halves - vectors[rows] @ self.centroids.T
            nearest = scores.argmin(axis=1)
            apart = vectors[rows] - self.centroids[nearest]
            measured[0, rows] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
            levels, beside = features(glyphs[rows]), self.beside[nearest]
            for each in np.unique(beside).tolist():
                measured[1, rows][beside == each] = self.classes.unlikeness(levels[beside == each], each)
        return measured

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        (m, d), (c, a, p) = self.centroids.shape, self.classes.axes.shape
        arrays = [self.centroids, self.beside, *self.classes, self.limits]
        parts = [array.astype(kind).tobytes() for array, kind in zip(arrays, _KINDS, strict=True)]
        stored = struct.pack("<5i", m, d, c, a, p) + b"".join(parts)
        return hashlib.sha256(stored).digest()[:DIGEST_BYTES] + stored

    @classmethod
    def from_bytes(cls, stored: bytes) -> Gate:
        """Raises ValueError where these are not the bytes of a gate."""
        if hashlib.sha256(stored[DIGEST_BYTES:]).digest()[:DIGEST_BYTES] != stored[:DIGEST_BYTES]:
            raise ValueError("these are not the bytes of a gate: their digest is another")
        m, d, c, a, p = struct.unpack_from("<5i", stored, DIGEST_BYTES)
        at, arrays = DIGEST_BYTES + struct.calcsize("<5i"), list[Any]()
        for kind, shape in zip(_KINDS, ((m, d), (m,), (c, p), (c, a, p), (c, a), (c,), (2,)), strict=True):
            arrays.append(np.frombuffer(stored, kind, int(np.prod(shape)), at).reshape(shape).astype(kind[1:]))
            at += arrays[-1].nbytes
        centroids, beside, *classes, limits = arrays
        return cls(centroids, beside, Classes(*classes), limits)


_KINDS = ("<f4", "<i4", "<f4", "<f4", "<f4", "<f4", "<f4")


def _centroids(vectors: Float32, seed: int = 0) -> Float32:
    """(n, d) -> (at most CENTROIDS, and at least one, d), by Lloyd's k-means."""
    rng = np.random.default_rng(seed)
    count = min(CENTROIDS, max(1, len(vectors) // IMAGES))
    centroids = vectors[rng.choice(len(vectors), count, replace=False)]
    for _ in range(ROUNDS):
        of: Int64 = (np.square(centroids).sum(axis=1) / 2 - vectors @ centroids.T).argmin(axis=1)
        order = np.argsort(of, kind="stable")
        starts = np.unique(of[order], return_index=True)[1]
        sizes = np.diff(np.append(starts, len(order))).astype(np.float32)
        sums: Float32 = np.add.reduceat(vectors[order], starts, axis=0)
        centroids = sums / sizes[:, None]
    return centroids
