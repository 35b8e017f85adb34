"""The contrastive loss of Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping",
CVPR 2006, equation 4."""

from __future__ import annotations

from typing import Any

from keras import ops


def contrastive_loss(different: Any, distance: Any, margin: float = 1.0) -> Any:
    """(n, 1) of 0 (the twins show the same digit) or 1 (different digits), (n, 1) distances -> (n, 1) losses.

    Same pulls: d^2 / 2. Different pushes, up to the margin: max(0, margin - d)^2 / 2.
    """
    different = ops.cast(different, distance.dtype)
    pull = (1 - different) / 2 * ops.square(distance)
    push = different / 2 * ops.square(ops.maximum(0.0, margin - distance))
    return pull + push
