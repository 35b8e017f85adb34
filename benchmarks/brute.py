"""What the nearest neighbours are: all of them compared, in float64. Written apart from the product, to judge it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from training.arrays import Float32

Array = np.ndarray[Any, Any]

SPARE = 22  # candidates beyond k whose distances are computed again
QUERIES, ROWS = 250, 65_536  # compared at a time


class Nearest(NamedTuple):
    """places: (q, k) int64, nearest first, equal distances by place. distances: (q, k) float64, Euclidean."""

    places: Array
    distances: Array


def nearest(vectors: Float32, queries: Float32, k: int) -> Nearest:
    """The k nearest of vectors (n, 128) to each query (q, 128).

    Candidates come from |x|^2 - 2 x.q in float64, which is off by less than 1e-9 (|x|^2 + |q|^2), so that none of the
    others can be among the k; their distances from sums of squared differences.
    """
    found = [_block(vectors, queries[start : start + QUERIES], k) for start in range(0, len(queries), QUERIES)]
    return Nearest(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _block(vectors: Float32, queries: Float32, k: int) -> Nearest:
    asked = queries.astype(np.float64)
    most = min(k + SPARE, len(vectors))
    scores, at, longest = np.full((len(asked), 0), np.inf), np.zeros((len(asked), 0), np.int64), 0.0
    for start in range(0, len(vectors), ROWS):
        part = vectors[start : start + ROWS].astype(np.float64)
        squares = np.einsum("ij,ij->i", part, part)
        longest = max(longest, float(squares.max()))
        some = squares - 2 * asked @ part.T
        if some.shape[1] > most:
            best = np.argpartition(some, most - 1, axis=1)[:, :most]
        else:
            best = np.broadcast_to(np.arange(some.shape[1]), some.shape)
        scores = np.concatenate([scores, np.take_along_axis(some, best, 1)], axis=1)
        at = np.concatenate([at, start + best], axis=1)
        kept = np.argsort(scores, axis=1, kind="stable")[:, :most]
        scores, at = np.take_along_axis(scores, kept, 1), np.take_along_axis(at, kept, 1)
    places, distances = np.empty((len(asked), k), np.int64), np.empty((len(asked), k))
    for row, query in enumerate(asked):
        length = float(query @ query)
        candidates = at[row]
        own = distances_to(vectors[candidates], query)
        order = np.lexsort((candidates, own))[:k]
        if most < len(vectors) and own[order[-1]] ** 2 >= scores[row, -1] + length - 1e-9 * (longest + length):
            candidates = np.arange(len(vectors))  # very many are nearly equally near
            own = np.concatenate(
                [distances_to(vectors[start : start + ROWS], query) for start in range(0, len(vectors), ROWS)]
            )
            order = np.lexsort((candidates, own))[:k]
        places[row], distances[row] = candidates[order], own[order]
    return Nearest(places, distances)


def distances_to(vectors: Float32, query: Array) -> Array:
    """(n,) float64, Euclidean."""
    distances: Array = np.sqrt(np.square(vectors.astype(np.float64) - query).sum(axis=1))
    return distances
