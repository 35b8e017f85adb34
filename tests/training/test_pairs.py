"""Pairs are drawn as the recipe says: one same and one different partner for every image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import DataError
from training.fit.pairs import Pairs, draw_pairs

labels_of_two_or_more = st.lists(st.integers(0, 9), min_size=2, max_size=60).filter(lambda labels: len(set(labels)) > 1)


def drawn(labels: list[int], seed: int) -> Pairs:
    return draw_pairs(np.array(labels, np.uint8), np.random.default_rng(seed))


@given(labels_of_two_or_more, st.integers(0, 2**32))
def test_a_pair_is_1_where_both_show_the_same_digit_and_0_where_not(labels: list[int], seed: int) -> None:
    one, other, same = drawn(labels, seed)
    shown = np.array(labels)
    assert same.shape == (2 * len(labels), 1)
    assert np.array_equal(same[:, 0], shown[one] == shown[other])


@given(labels_of_two_or_more, st.integers(0, 2**32))
def test_every_image_has_one_pair_of_each_kind(labels: list[int], seed: int) -> None:
    one, _, same = drawn(labels, seed)
    for kind in (0, 1):
        assert sorted(one[same[:, 0] == kind]) == list(range(len(labels)))


def test_partners_are_drawn_evenly() -> None:
    labels = [0] * 3 + [1] * 5 + [2] * 2
    counts = np.zeros((2, 10, 10), int)
    for seed in range(3000):
        one, other, same = drawn(labels, seed)
        np.add.at(counts, (same[:, 0].astype(int), one, other), 1)
    shown = np.array(labels)
    for kind, wanted in ((1, shown[:, None] == shown), (0, shown[:, None] != shown)):
        expected = 3000 * wanted / wanted.sum(axis=1, keepdims=True)
        assert np.abs(counts[kind] - expected).max() < 5 * np.sqrt(3000 / 4)
        assert not counts[kind][~wanted].any()


def test_pairs_come_in_random_order() -> None:
    same = drawn([0, 1] * 500, seed=0).same[:, 0]
    assert 850 < np.count_nonzero(np.diff(same)) < 1150  # of 1,999 neighbours, about half


def test_the_same_seed_draws_the_same_pairs() -> None:
    first, second = (drawn([1, 2, 3] * 9, 5) for _ in range(2))
    np.testing.assert_array_equal(np.hstack([first.one, first.other]), np.hstack([second.one, second.other]))
    np.testing.assert_array_equal(first.same, second.same)


def test_one_class_makes_no_pairs() -> None:
    with pytest.raises(DataError, match="two classes"):
        drawn([4, 4, 4], 0)
