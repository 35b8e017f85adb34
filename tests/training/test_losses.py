"""The contrastive loss and the accuracy of pairs at their four corners, and between."""

import numpy as np
import pytest

from training.model.siamese import contrastive_loss, pair_accuracy


@pytest.mark.parametrize(
    ("same", "distance", "loss"),
    [
        (1, 0.0, 0.0),  # same and near: no loss
        (1, 2.0, 2.0),  # same and far: pulled
        (0, 0.0, 0.5),  # different and near: pushed
        (0, 2.0, 0.0),  # different and far: no loss
        (1, 0.6, 0.18),
        (0, 0.6, 0.08),
        (0, 1.0, 0.0),
    ],
)
def test_same_pulls_and_different_pushes(same: int, distance: float, loss: float) -> None:
    found = contrastive_loss(np.array([[same]], np.uint8), np.array([[distance]], np.float32))
    assert np.asarray(found) == pytest.approx(np.array([[loss]]), abs=1e-7)


def test_the_margin_is_where_pushing_ends() -> None:
    distances = np.array([[0.7], [0.8]], np.float32)
    found = np.asarray(contrastive_loss(np.zeros((2, 1), np.float32), distances, margin=0.75))
    assert found[0, 0] > 0
    assert found[1, 0] == 0


@pytest.mark.parametrize(
    ("same", "distance", "right"),
    [
        (1, 0.0, 1),  # same and near
        (1, 2.0, 0),  # same and far
        (0, 0.0, 0),  # different and near
        (0, 2.0, 1),  # different and far
        (1, 0.5, 1),  # at the threshold a pair is still judged same
        (0, 0.5, 0),
    ],
)
def test_a_pair_is_judged_same_up_to_the_threshold(same: int, distance: float, right: int) -> None:
    found = pair_accuracy(np.array([[same]], np.uint8), np.array([[distance]], np.float32), threshold=0.5)
    assert np.asarray(found).tolist() == [right]
