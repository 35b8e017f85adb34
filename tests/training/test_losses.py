"""The contrastive loss at its four corners, and between."""

import numpy as np
import pytest

from training.model.siamese import contrastive_loss


@pytest.mark.parametrize(
    ("different", "distance", "loss"),
    [
        (0, 0.0, 0.0),  # same and near: content
        (0, 2.0, 2.0),  # same and far: pulled
        (1, 0.0, 0.5),  # different and near: pushed
        (1, 2.0, 0.0),  # different and far: content
        (0, 0.6, 0.18),
        (1, 0.6, 0.08),
        (1, 1.0, 0.0),
    ],
)
def test_same_pulls_and_different_pushes(different: int, distance: float, loss: float) -> None:
    found = contrastive_loss(np.array([[different]], np.uint8), np.array([[distance]], np.float32))
    assert np.asarray(found) == pytest.approx(np.array([[loss]]), abs=1e-7)


def test_the_margin_is_where_pushing_ends() -> None:
    distances = np.array([[0.7], [0.8]], np.float32)
    found = np.asarray(contrastive_loss(np.ones((2, 1), np.float32), distances, margin=0.75))
    assert found[0, 0] > 0
    assert found[1, 0] == 0
