"""The vote of neighbours is what its formula says, and behaves as a probability does."""

from math import exp
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.fit.vote import NO_LABEL, VoteRule, plain_vote

Array = NDArray[Any]
CLASSES = 4

rules = st.builds(VoteRule, bandwidth=st.floats(0.01, 10), prior=st.floats(1e-6, 1), classes=st.just(CLASSES))
voters = st.lists(st.tuples(st.integers(NO_LABEL, CLASSES - 1), st.floats(0, 20)), min_size=1, max_size=12).map(
    lambda each: sorted(each, key=lambda voter: voter[1])
)


def columns(each: list[tuple[int, float]]) -> tuple[Array, Array]:
    """(1, k) labels and distances."""
    return np.array([[label for label, _ in each]]), np.array([[distance for _, distance in each]])


def slowly(rule: VoteRule, label: int, each: list[tuple[int, float]], classes: int = CLASSES) -> float:
    """The formula, term by term."""
    weights = [(voter, exp(-distance / rule.bandwidth)) for voter, distance in each if voter != NO_LABEL]
    agreeing = sum(weight for voter, weight in weights if voter == label)
    return (rule.prior + agreeing) / (rule.prior * classes + sum(weight for _, weight in weights))


@settings(deadline=None)
@given(rules, voters)
def test_the_elected_label_has_the_highest_probability_and_all_of_them_sum_to_one(
    rule: VoteRule, each: list[tuple[int, float]]
) -> None:
    assume(any(label != NO_LABEL for label, _ in each))
    labels, distances = columns(each)
    elected = rule.elect(labels, distances)
    every = np.array([rule.probability(np.array([label]), labels, distances)[0] for label in range(CLASSES)])
    assert every == pytest.approx([slowly(rule, label, each) for label in range(CLASSES)])
    assert every.sum() == pytest.approx(1)
    assert elected.labels[0] != NO_LABEL
    assert every[elected.labels[0]] == pytest.approx(every.max())
    assert elected.probabilities[0] == pytest.approx(every.max())


@settings(deadline=None)
@given(rules, voters, st.floats(0, 20))
def test_one_more_voter_for_a_label_never_makes_it_less_probable(
    rule: VoteRule, each: list[tuple[int, float]], distance: float
) -> None:
    label = np.array([1])
    before = rule.probability(label, *columns(each))[0]
    after = rule.probability(label, *columns(sorted([*each, (1, distance)], key=lambda voter: voter[1])))[0]
    assert after >= before - 1e-12


def test_far_voters_say_nothing() -> None:
    rule = VoteRule(bandwidth=0.1, prior=1e-3, classes=10)
    near = rule.elect(*columns([(3, 0.01)] * 5)).probabilities[0]
    far = rule.elect(*columns([(3, 5.0)] * 5)).probabilities[0]
    assert near > 0.99
    assert far == pytest.approx(0.1, abs=1e-3)


def test_one_that_is_much_nearer_outvotes_two() -> None:
    labels, distances = columns([(7, 0.01), (1, 0.5), (1, 0.5)])
    assert VoteRule(bandwidth=0.1, prior=1e-3, classes=10).elect(labels, distances).labels[0] == 7
    assert plain_vote(labels)[0] == 1


def test_a_tie_goes_to_the_nearer() -> None:
    labels, distances = columns([(7, 0.2), (1, 0.2)])
    assert VoteRule(bandwidth=0.1, prior=1e-3, classes=10).elect(labels, distances).labels[0] == 7
    assert plain_vote(labels)[0] == 7


def test_where_no_neighbour_has_a_label_none_is_elected() -> None:
    labels, distances = columns([(NO_LABEL, 0.1), (NO_LABEL, 0.2)])
    assert VoteRule(bandwidth=0.1, prior=1e-3, classes=10).elect(labels, distances).labels[0] == NO_LABEL
    assert plain_vote(labels)[0] == NO_LABEL


def test_labels_beyond_those_of_the_training_count_as_classes_too() -> None:
    rule = VoteRule(bandwidth=0.1, prior=0.5, classes=2)
    each = [(label, 0.1) for label in range(5)]
    labels, distances = columns(each)
    every = [rule.probability(np.array([label]), labels, distances)[0] for label in range(5)]
    assert sum(every) == pytest.approx(1)
    assert every == pytest.approx([slowly(rule, label, each, classes=5) for label in range(5)])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_no_rule_of_the_grid_has_a_lower_log_loss_than_the_fitted_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, 200)
    labels = np.where(rng.random((200, 10)) < 0.8, truth[:, None], rng.integers(0, CLASSES, (200, 10)))
    distances = np.sort(rng.exponential(0.2, (200, 10)), axis=1)

    def loss(rule: VoteRule) -> float:
        return -float(np.log(rule.probability(truth, labels, distances)).mean())

    fitted = VoteRule.fit(labels == truth[:, None], distances, classes=CLASSES)
    best, usual = loss(fitted), float(np.median(distances))
    for wider in (0.5, 0.9, 1.1, 2.0):
        for stronger in (0.5, 0.9, 1.1, 2.0):
            bandwidth = min(max(fitted.bandwidth * wider, usual / 100), usual * 100)  # inside the grid
            prior = min(max(fitted.prior * stronger, 1e-6), 1.0)
            assert best <= loss(VoteRule(bandwidth, prior, CLASSES)) + 1e-4


def test_distances_that_are_all_the_same_make_a_rule_as_well() -> None:
    rule = VoteRule.fit(np.ones((5, 3), bool), np.zeros((5, 3)), classes=2)
    assert rule.elect(np.array([[1, 1, 0]]), np.zeros((1, 3))).labels[0] == 1
