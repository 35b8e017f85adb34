"""Real digits, few enough to train on in a test."""

from pathlib import Path

import pytest

from training.data.dataset import Dataset
from training.data.mnist import read_npz


@pytest.fixture(scope="session")
def sample() -> Dataset:
    """800 training and 300 test digits of MNIST."""
    return read_npz(Path(__file__).parents[1] / "data" / "mnist-sample.npz")
