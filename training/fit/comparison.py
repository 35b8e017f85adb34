"""How well vectors of one tower tell labelled digits apart, as it is compared with another's. NumPy alone.

It must not know which towers they are, nor which differences are accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.arrays import AnyArray, Float32
from training.fit.evaluation import judge_pairs, retrieval

DECIDING = ("pair_accuracy", "recall_1", "recall_10", "map_at_r")  # of these, more is better


@dataclass(frozen=True)
class Measures:
    """pair_accuracy: at the tower's own threshold, pairs weighted as `evaluation` does. threshold_loss: by how much the
    best threshold is more accurate on these digits. The others are as `evaluation.retrieval` has them."""

    pair_accuracy: float
    threshold_loss: float
    recall_1: float
    recall_10: float
    map_at_r: float


def measure(vectors: Float32, labels: AnyArray, *, threshold: float) -> Measures:
    """vectors: (n, d) of labelled digits, of two labels or more. threshold: the tower's own."""
    pairs = judge_pairs(vectors, labels)
    accuracy = pairs.accuracy(threshold)
    return Measures(
        pair_accuracy=accuracy,
        threshold_loss=max(0.0, pairs.accuracy(pairs.best_threshold()) - accuracy),
        **retrieval(vectors, labels)._asdict(),
    )


def is_judged_same(one: Float32, two: Float32, *, threshold: float) -> AnyArray:
    """(n, d) and (n, d) -> (n,) bool: whether the two of a pair are no farther apart than the threshold."""
    within: AnyArray = np.linalg.norm(one.astype(np.float64) - two.astype(np.float64), axis=1) <= threshold
    return within
