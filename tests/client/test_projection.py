"""The first two principal components, as their definition says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinvec_client.projection import project

seeds = st.integers(0, 2**32 - 1)


def flat(seed: int, count: int = 60) -> np.ndarray:
    """(count, 8) float32 that vary less from direction to direction, by a rotation that hides which."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    vectors: np.ndarray = rng.normal(size=(count, 8)) * np.array([9, 5, 2, 1, 0.5, 0.2, 0.1, 0.1]) @ rotation + 3
    return vectors.astype(np.float32)


@settings(deadline=None)
@given(seeds)
def test_no_other_plane_shows_more_of_the_variance(seed: int) -> None:
    vectors = flat(seed).astype(np.float64)
    found = project(vectors)
    centred = vectors - vectors.mean(axis=0)
    total = (centred**2).sum()
    shares = np.linalg.svd(centred, compute_uv=False) ** 2 / total
    assert found.explained == pytest.approx(shares[:2], abs=1e-6)
    assert (found.places**2).sum(axis=0) / total == pytest.approx(shares[:2], abs=1e-6)
    assert found.places.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)


@settings(deadline=None)
@given(seeds)
def test_points_are_no_farther_apart_than_their_vectors(seed: int) -> None:
    vectors = flat(seed)
    places = project(vectors).places
    apart = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], axis=2)
    assert (np.linalg.norm(places[:, None] - places[None], axis=2) <= apart + 1e-5).all()


def test_the_same_vectors_give_the_same_picture_in_any_order() -> None:
    vectors = flat(1)
    order = np.random.default_rng(2).permutation(len(vectors))
    assert project(vectors[order]).places == pytest.approx(project(vectors).places[order], abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_vectors_have_places_too(count: int) -> None:
    found = project(flat(1)[:count])
    assert found.places.shape == (count, 2)
    assert np.isfinite(found.places).all()
    assert sum(found.explained) == pytest.approx(1 if count == 2 else 0)
