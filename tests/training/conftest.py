"""Real digits, few enough to train on in a test."""

from pathlib import Path

import pytest

from tests.training.reports import report_on
from training.data.dataset import Dataset
from training.data.mnist import read_npz
from training.report.facts import Report


@pytest.fixture(scope="session")
def sample() -> Dataset:
    """800 training and 300 test digits of MNIST."""
    return read_npz(Path(__file__).parents[1] / "data" / "mnist-sample.npz")


@pytest.fixture(scope="session")
def report(costly: None, sample: Dataset) -> Report:
    """On two towers side by side."""
    return report_on(sample)
