"""Distorted glyphs are still glyphs, and still the same ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.dataset import Dataset
from training.fit.augment import draw_tables, warped, weakened
from training.recipes import RECIPES, Warp

STILL = Warp(rotation=0, stretch=0, shear=0, shift=0)
WARPS = [recipe.warp for recipe in RECIPES.values() if recipe.warp is not None]

seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), seeds)
@pytest.mark.parametrize("warp", WARPS)
def test_a_distorted_digit_keeps_its_shape_and_its_ink(sample: Dataset, warp: Warp, count: int, seed: int) -> None:
    images = sample.train_images[:count].reshape(-1, 784)
    found = warped(images, replace(warp, stroke=0), np.random.default_rng(seed))
    assert found.shape == images.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    ink = found.sum(axis=1) / (images / 255).sum(axis=1)
    assert np.all((ink > 0.5) & (ink < 2))


def test_no_distortion_changes_nothing(sample: Dataset) -> None:
    images = sample.train_images.reshape(-1, 784)
    found = warped(images, STILL, np.random.default_rng(0))
    # But for the last row and column, whose source lies a hair within the edge.
    np.testing.assert_allclose(found, images / 255, atol=1e-4)


def test_the_same_seed_distorts_alike_and_another_does_not(sample: Dataset) -> None:
    images, warp = sample.train_images[:50].reshape(-1, 784), WARPS[0]
    first, again, other = (warped(images, warp, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_group_shares_its_distortion_and_the_next_has_another(sample: Dataset) -> None:
    images = np.repeat(sample.train_images[:1].reshape(1, 784), 50, axis=0)
    found = warped(images, replace(WARPS[0], group=25), np.random.default_rng(0))
    assert np.ptp(found[:25], axis=0).max() == 0
    assert np.ptp(found[25:], axis=0).max() == 0
    assert not np.array_equal(found[0], found[25])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), seeds)
@pytest.mark.parametrize("warp", WARPS)
def test_every_pixel_comes_from_four_that_exist(warp: Warp, count: int, seed: int) -> None:
    corners, weights = draw_tables(count, warp, np.random.default_rng(seed))
    assert corners.shape == (count, 784)
    assert weights.shape == (count, 4, 784)
    assert corners.min() >= 0
    assert corners.max() + 29 <= 783
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


def test_a_shift_moves_the_picture_by_as_many_pixels() -> None:
    dot = np.zeros((2000, 28, 28), np.uint8)
    dot[:, 14, 14] = 255
    found = warped(dot.reshape(-1, 784), replace(STILL, shift=2, group=1), np.random.default_rng(0)).reshape(-1, 28, 28)
    rows = (found.sum(axis=2) * np.arange(28)).sum(axis=1)
    assert np.abs(rows - 14).max() == pytest.approx(2, abs=0.02)


def test_strokes_become_as_much_thicker_and_thinner_as_it_says() -> None:
    bar = np.zeros((2000, 28, 28), np.uint8)
    bar[:, :, 10:15] = 255
    found = warped(bar.reshape(-1, 784), replace(STILL, stroke=0.5, group=1), np.random.default_rng(0))
    widths = found.reshape(-1, 28, 28)[:, 14].sum(axis=1)
    assert widths.min() == pytest.approx(5 - 2 * 0.5, abs=0.02)
    assert widths.max() == pytest.approx(5 + 2 * 0.5, abs=0.02)


def test_elastic_bends_as_far_as_it_says() -> None:
    warp = replace(STILL, elastic=1.5)
    corners, weights = draw_tables(500, warp, np.random.default_rng(0))
    rows = corners // 28 + weights[:, 2] + weights[:, 3]
    inner = (rows.reshape(-1, 28, 28) - np.arange(28)[:, None])[:, 8:20, 8:20]
    assert inner.std() == pytest.approx(1.5, rel=0.1)


def test_a_fading_warp_weakens_over_the_last_epochs_to_what_rests() -> None:
    warp = replace(WARPS[0], rotation=8, fade=0.5, rest=0.25)
    assert [weakened(warp, share).rotation for share in (0, 0.4, 0.5, 0.75, 0.9, 1)] == pytest.approx(
        [8, 8, 8, 4, 2, 2]
    )
    assert weakened(warp, 0.75).elastic == pytest.approx(warp.elastic / 2)
    assert weakened(replace(warp, fade=0), 1).rotation == 8
