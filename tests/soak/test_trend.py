"""When a number counts as grown."""

import numpy as np
import pytest

from tests.soak.trend import Trend, chance_of_rise, slope_an_hour, trend

MINUTES = [60.0 * at for at in range(40)]


def noise(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, len(MINUTES))


def of(values: np.ndarray, *, slight: float = 1.0, limit: float | None = None) -> Trend:
    return trend(MINUTES, [float(value) for value in values], slight=slight, limit=limit)


def test_a_slow_leak_under_noise_grows() -> None:
    leak = of(700 + np.arange(40) * 5 / 60 + noise(scale=0.5))
    assert leak.grows
    assert leak.slope == pytest.approx(5, abs=1)
    assert leak.first < leak.middle < leak.last


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not(seed: int) -> None:
    assert not of(700 + noise(seed, scale=20)).grows


def test_what_rises_and_falls_again_and_again_does_not() -> None:
    assert not of(np.arange(40) % 8 * 10.0).grows


def test_a_fall_does_not() -> None:
    assert not of(700 - np.arange(40.0)).grows


def test_a_single_leap_that_comes_back_moves_no_slope() -> None:
    values = np.full(40, 700.0)
    values[30:33] = 5000
    assert of(values).slope == 0


def test_what_is_certain_and_slight_does_not() -> None:
    creeping = np.arange(40) / 60
    assert of(creeping, slight=0.5).grows
    assert not of(creeping, slight=1.5).grows


def test_what_has_a_limit_is_judged_by_it_alone() -> None:
    rising = np.arange(40.0)
    assert not of(rising, limit=40).grows
    assert of(rising, limit=30).grows


def test_equal_numbers_rise_by_chance_alone() -> None:
    assert chance_of_rise([3.0] * 10) == 1
    assert slope_an_hour([0.0], [3.0]) == 0


def test_the_chance_of_a_rise_is_that_of_the_textbook() -> None:
    """Ten numbers in order: S = 45, its variance 125, z = 44 / sqrt(125)."""
    assert chance_of_rise([float(at) for at in range(10)]) == pytest.approx(4.15e-5, rel=0.01)
