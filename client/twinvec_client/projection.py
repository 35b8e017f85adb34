"""Vectors on a plane: their first two principal components. It must not know what the vectors are of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Projected(NamedTuple):
    """places: (n, 2) float64. explained: the share of the vectors' variance that lies along each of the two."""

    places: Array
    explained: tuple[float, float]


def project(vectors: Array) -> Projected:
    """(n, d) float32, any n -> the two directions along which they vary most (Pearson, 1901; Hotelling, 1933).

    A direction points where its largest part is positive, so that the same vectors give the same picture.
    """
    if not len(vectors):
        return Projected(np.empty((0, 2)), (0.0, 0.0))
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    values, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    first_two = directions[:, :-3:-1]
    largest = np.take_along_axis(first_two, np.abs(first_two).argmax(axis=0)[None], axis=0)
    total = float(values.sum())
    one, two = (float(max(value, 0.0) / total) if total > 0 else 0.0 for value in values[:-3:-1])
    return Projected(centred @ (first_two * np.sign(largest)), (one, two))
