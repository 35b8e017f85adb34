"""All pairs inside a batch: the same are pulled, the different pushed, and each pair counts as it should."""

from collections.abc import Sequence

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.model.all_pairs import AllDistances, all_pairs_accuracy, all_pairs_loss, judged_codes, related_pairs


def loss_of(
    labels: list[int], distances: Sequence[Sequence[float]], *, slack: float = 0.0, hardness: float = 0.5
) -> float:
    columns, square = np.array(labels, np.float32)[:, None], np.array(distances, np.float32)
    return float(all_pairs_loss(columns, square, margin=0.75, slack=slack, hardness=hardness))


@pytest.mark.parametrize(
    ("other", "distance", "loss"),
    [
        (1, 0.0, 0.0),  # same and near: no loss
        (1, 2.0, 2.0),  # same and far: pulled
        (2, 0.0, 0.28125),  # different and near: pushed
        (2, 2.0, 0.0),  # different and far: no loss
    ],
)
def test_same_pulls_and_different_pushes(other: int, distance: float, loss: float) -> None:
    assert loss_of([1, other], [[0, distance], [distance, 0]]) == pytest.approx(loss)


def test_what_is_near_enough_is_not_pulled() -> None:
    assert loss_of([1, 1], [[0, 0.2], [0.2, 0]], slack=0.25) == 0
    assert loss_of([1, 1], [[0, 0.65], [0.65, 0]], slack=0.25) == pytest.approx(0.4**2 / 2)


def test_hardness_weighs_the_push_between_all_pairs_and_those_that_push() -> None:
    distances: list[list[float]] = [[0, 0.25, 2, 2], [0.25, 0, 2, 2], [2, 2, 0, 2], [2, 2, 2, 0]]
    push = 2 * 0.5**2 / 2  # one pair of twelve pushes, counted both ways
    for hardness, weight in ((0, 12), (0.5, np.sqrt(12 * 2)), (1, 2)):
        assert loss_of([0, 1, 2, 3], distances, hardness=hardness) == pytest.approx(push / weight)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_the_loss_is_the_sum_over_pairs_written_out(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels, points = rng.integers(0, 3, count), rng.normal(0, 0.4, (count, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    pulls, pushes = [], []
    for one in range(count):
        for other in range(count):
            if one == other:
                continue
            if labels[one] == labels[other]:
                pulls.append(distances[one, other] ** 2)
            else:
                pushes.append(max(0.0, 0.75 - distances[one, other]) ** 2)
    pushing = sum(push > 0 for push in pushes)
    pull = np.sum(pulls) / max(len(pulls), 1)
    push = np.sum(pushes) / max(np.sqrt(len(pushes) * pushing), 1)
    assert loss_of(labels.tolist(), distances.tolist()) == pytest.approx((pull + push) / 2, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("labels", [[4, 4, 4], [1, 2, 3]])
def test_a_batch_without_same_or_without_different_pairs_has_a_finite_loss(labels: list[int]) -> None:
    assert np.isfinite(loss_of(labels, [[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]]))


def test_accuracy_weighs_same_and_different_alike() -> None:
    # Same: 0-1 near, rightly. Different: 0-2 near, wrongly; 1-2 far, rightly.
    distances = np.array([[0, 0.1, 0.4], [0.1, 0, 0.9], [0.4, 0.9, 0]], np.float32)
    found = all_pairs_accuracy(np.array([[7], [7], [8]], np.float32), distances, threshold=0.5)
    assert float(found) == pytest.approx((1 + 0.5) / 2)


def test_what_was_said_of_a_pair_relates_its_two_images_alone() -> None:
    labels = np.concatenate([[[7], [7], [8]], judged_codes(np.array([True, False]))]).astype(np.int32)
    same, different = (keras.ops.convert_to_numpy(each) for each in related_pairs(labels, "float32", judged=True))
    apart, together = np.zeros((7, 7)), np.eye(7)
    together[:2, :2] = together[3:5, 3:5] = 1
    apart[2, :2] = apart[:2, 2] = apart[5, 6] = apart[6, 5] = 1
    np.testing.assert_array_equal(same, together)
    np.testing.assert_array_equal(different, apart)


def test_without_judged_pairs_nothing_is_counted_otherwise() -> None:
    labels = np.array([[7], [7], [8], [0]], np.int32)
    for plain, judged in zip(*(related_pairs(labels, "float32", judged=each) for each in (False, True)), strict=True):
        np.testing.assert_array_equal(plain, judged)


def test_distances_are_of_all_to_all() -> None:
    points = np.random.default_rng(0).normal(0, 0.1, (20, 128)).astype(np.float32)
    found = keras.ops.convert_to_numpy(AllDistances()(points))
    expected = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_allclose(found, expected, atol=2e-3)
