"""Every measure equals what its definition says, written out the slow way."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.fit.evaluation import BINS, FINE, MEASURES, confusion, evaluate, judge_pairs, neighbours, retrieval, votes

Array = NDArray[Any]

seeds = st.integers(0, 2**32 - 1)
thresholds = st.integers(0, 3 * FINE).map(lambda step: step / FINE)


def cloud(seed: int) -> tuple[Array, Array]:
    """A few to 40 embeddings (n, 6) float32 around the centres of 2 to 5 classes, and their labels."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rng.integers(0, 36))]).astype(np.uint8)
    centres = rng.normal(0, 0.3, (classes, 6))
    return (centres[labels] + rng.normal(0, 0.2, (len(labels), 6))).astype(np.float32), labels


def apart(one: Array, two: Array) -> Array:
    """(n, m) float64 distances."""
    distances: Array = np.linalg.norm(one[:, None].astype(np.float64) - two[None], axis=2)
    return distances


def drawn_accuracy(embeddings: Array, labels: Array, threshold: float) -> float:
    """The mean over images of its mean over every partner that the notebook could draw for it."""
    distances = apart(embeddings, embeddings)
    rates = []
    for image, label in enumerate(labels):
        rates.append(np.mean(distances[image, labels == label] < threshold))
        rates.append(np.mean(distances[image, labels != label] >= threshold))
    return float(np.mean(rates))


def average_precision(embeddings: Array, labels: Array) -> float:
    """MAP@R, rank by rank."""
    distances = apart(embeddings, embeddings)
    np.fill_diagonal(distances, np.inf)
    found = []
    for image, label in enumerate(labels):
        count = int(np.sum(labels == label)) - 1
        if not count:
            continue
        right = labels[np.argsort(distances[image], kind="stable")[:count]] == label
        found.append(sum(np.mean(right[: rank + 1]) for rank in range(count) if right[rank]) / count)
    return float(np.mean(found)) if found else 0.0


@settings(deadline=None)
@given(seeds, thresholds)
def test_pair_accuracy_is_the_mean_over_every_pair_that_could_be_drawn(seed: int, threshold: float) -> None:
    embeddings, labels = cloud(seed)
    assert judge_pairs(embeddings, labels).accuracy(threshold) == pytest.approx(
        drawn_accuracy(embeddings, labels, threshold), abs=2e-3 if threshold else 1e-9
    )


def test_what_lies_at_the_threshold_is_judged_different() -> None:
    line = np.array([[0.0], [0.5], [0.25], [2.0]], np.float32)
    judged = judge_pairs(line, np.array([0, 0, 1, 1]))
    # Same: each with itself, and 0.5 apart (two draws), 1.75 apart (two). At 0.5 only themselves lie below.
    assert judged.same_below[FINE // 2] == pytest.approx(0.5)
    assert judged.same_below[FINE // 2 + 1] == pytest.approx(0.75)
    assert judged.same_below[BINS] == pytest.approx(1)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_no_threshold_judges_better_than_the_best(seed: int) -> None:
    embeddings, labels = cloud(seed)
    judged = judge_pairs(embeddings, labels)
    best = judged.accuracy(judged.best_threshold())
    assert best == pytest.approx(max(judged.accuracy(step / FINE) for step in range(BINS)), abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_errors_and_accuracy_agree_along_the_curve(seed: int) -> None:
    judged = judge_pairs(*cloud(seed))
    curve = judged.curve()
    assert curve["false_accept"] == sorted(curve["false_accept"])
    assert curve["false_reject"] == sorted(curve["false_reject"], reverse=True)
    for threshold, accepted, rejected in zip(*curve.values(), strict=True):
        nearest_step = round(threshold * FINE) / FINE
        assert judged.accuracy(nearest_step) == pytest.approx(1 - (accepted + rejected) / 2, abs=2e-6)


@settings(deadline=None)
@given(seeds)
def test_map_at_r_is_what_the_paper_defines(seed: int) -> None:
    embeddings, labels = cloud(seed)
    assert retrieval(embeddings, labels).map_at_r == pytest.approx(average_precision(embeddings, labels), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_recall_asks_for_one_right_among_the_first(seed: int) -> None:
    embeddings, labels = cloud(seed)
    distances = apart(embeddings, embeddings)
    np.fill_diagonal(distances, np.inf)
    right = labels[np.argsort(distances, axis=1)[:, :-1]] == labels[:, None]
    asking = right.any(axis=1)
    found = retrieval(embeddings, labels)
    if asking.any():
        assert found.recall_1 == pytest.approx(np.mean(right[asking, 0]))
        assert found.recall_10 == pytest.approx(np.mean(right[asking, :10].any(axis=1)))


@settings(deadline=None)
@given(seeds, st.integers(1, 60))
def test_neighbours_are_the_nearest_in_order(seed: int, count: int) -> None:
    (gallery, _), (queries, _) = cloud(seed), cloud(seed + 1)
    found = neighbours(gallery, queries, count)
    distances = apart(queries, gallery)
    assert found.shape == (len(queries), min(count, len(gallery)))
    chosen = np.take_along_axis(distances, found, axis=1)
    np.testing.assert_allclose(chosen, np.sort(distances, axis=1)[:, : found.shape[1]], atol=1e-5)


def test_the_most_frequent_wins_and_the_nearest_decides_between_equals() -> None:
    near = np.array([[1, 2, 2, 3, 3], [4, 4, 5, 5, 5], [6, 7, 8, 9, 0], [1, 2, 2, 1, 3]])
    assert votes(near).tolist() == [2, 5, 6, 1]


def test_confusion_has_a_row_a_label() -> None:
    table = confusion(np.array([3, 3, 7, 7, 7]), np.array([3, 7, 7, 7, 3]))
    assert table == {"labels": [3, 7], "counts": [[1, 1], [1, 2]]}


def test_a_perfect_tower_makes_no_mistake() -> None:
    labels = np.repeat(np.arange(4, dtype=np.uint8), 5)
    points = np.eye(4, 128, dtype=np.float32)[labels]
    found = evaluate(points, labels, points, labels, threshold=0.5)
    assert {name: getattr(found, name) for name in MEASURES} == dict.fromkeys(MEASURES, 1.0)
    assert found.confusion["counts"] == (5 * np.eye(4, dtype=int)).tolist()


def test_an_image_alone_in_its_class_is_not_a_query() -> None:
    points = np.array([[0.0], [0.1], [9.0]], np.float32)
    assert retrieval(points, np.array([0, 0, 1])) == (1.0, 1.0, 1.0)
