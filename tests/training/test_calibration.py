"""Distances are calibrated on one half of the images and checked on the other, as the definitions say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.fit.calibration import calibrate, calibration_error, different_pairs, false_accepts, halves, reliability
from training.fit.evaluation import FINE, judge_pairs, neighbours
from training.fit.vote import VOTERS

Array = NDArray[Any]

seeds = st.integers(0, 2**32 - 1)


def clouds(seed: int, count: int, *, spread: float = 0.12) -> tuple[Array, Array]:
    """(count, 6) float32 around the centres of five classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, count).astype(np.uint8)
    centres = np.random.default_rng(0).normal(0, 0.3, (5, 6))
    return (centres[labels] + rng.normal(0, spread, (count, 6))).astype(np.float32), labels


def calibrated(gallery: tuple[Array, Array], queries: tuple[Array, Array]) -> Any:
    return calibrate(*gallery, *queries, near=neighbours(gallery[0], queries[0], VOTERS))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_halves_share_no_image_and_every_class_evenly(listed: list[int]) -> None:
    labels = np.array(listed, np.uint8)
    first, second = halves(labels)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for label in set(listed):
        assert 0 <= np.sum(labels[first] == label) - np.sum(labels[second] == label) <= 1


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0.001, 0.5))
def test_no_higher_distance_keeps_the_rate_of_false_accepts(seed: int, rate: float) -> None:
    embeddings, labels = clouds(seed, 60)
    judged = judge_pairs(embeddings, labels)
    distance = judged.false_accept_distance(rate)
    assert judged.false_accept(distance) <= rate < judged.false_accept(distance + 1 / FINE)
    apart = np.linalg.norm(embeddings[:, None].astype(np.float64) - embeddings[None], axis=2)
    shares = [np.mean(apart[at, labels != label] < distance) for at, label in enumerate(labels)]
    assert np.mean(shares) <= rate + 1e-2


def test_a_rate_that_too_few_pairs_could_show_has_no_distance() -> None:
    judged = judge_pairs(*clouds(1, 60))
    common, rare = false_accepts(judged, judged, pairs=3_100, rates=(0.01, 0.001))
    assert common.distance is not None
    assert (rare.distance, rare.false_accept, rare.false_reject) == (None, None, None)


def test_different_pairs_are_counted() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2])
    assert different_pairs(labels) == sum(one != other for at, one in enumerate(labels) for other in labels[:at])


def test_what_is_reported_is_of_the_images_that_did_not_choose() -> None:
    """The second half is moved away from all else: what was chosen stays, what is reported falls."""
    gallery, (embeddings, labels) = clouds(1, 800), clouds(2, 400)
    kept = calibrated(gallery, (embeddings, labels))
    moved = embeddings.copy()
    _, second = halves(labels)
    moved[second] = np.random.default_rng(3).normal(0, 3, moved[second].shape)
    found = calibrated(gallery, (moved, labels))
    assert (found.threshold, found.nearest_distance) == (kept.threshold, kept.nearest_distance)
    assert (found.vote.bandwidth, found.vote.prior) == (kept.vote.bandwidth, kept.vote.prior)
    assert [level.distance for level in found.false_accepts] == [level.distance for level in kept.false_accepts]
    assert found.accuracy < kept.accuracy - 0.2
    assert found.vote.accuracy < kept.vote.accuracy - 0.2
    assert found.vote.log_loss > kept.vote.log_loss


@pytest.mark.parametrize("spread", [0.05, 0.12, 0.25])
def test_probabilities_are_reliable_on_images_that_did_not_choose(spread: float) -> None:
    found = calibrated(clouds(1, 2000, spread=spread), clouds(2, 2000, spread=spread))
    assert found.vote.error < 0.05
    assert found.vote.error_unseen < 0.05
    assert found.images + found.checked_on == 2000


def test_the_share_of_images_within_the_kept_distances_is_the_kept_share() -> None:
    (gallery, labels), (queries, query_labels) = clouds(1, 500), clouds(2, 2000)
    found = calibrated((gallery, labels), (queries, query_labels))
    first, _ = halves(query_labels)
    nearest = np.linalg.norm(queries[first][:, None] - gallery[None], axis=2).min(axis=1)
    for share, distance in zip(found.nearest_share, found.nearest_distance, strict=True):
        assert np.mean(nearest <= distance) == pytest.approx(share, abs=2 / len(first))


def test_a_class_of_one_test_image_leaves_a_tower_without_calibration() -> None:
    gallery, (embeddings, labels) = clouds(1, 100), clouds(2, 100)
    labels[0] = 9
    assert calibrated(gallery, (embeddings, labels)) is None


def test_the_calibration_error_is_the_gap_between_probability_and_truth() -> None:
    probabilities = np.array([0.9] * 10 + [0.5] * 30)
    right = np.array([True] * 5 + [False] * 5 + [True] * 15 + [False] * 15)
    assert calibration_error(probabilities, right) == pytest.approx(0.4 * 10 / 40)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
    bins = reliability(probabilities, right)
    assert (bins.count, bins.right) == ([30, 10], [0.5, 0.5])
