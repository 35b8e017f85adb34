"""What users do, with the command as they call it, and twenty digits of MNIST, two of each class."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import twinvec
from tests.serving import worker
from training.arrays import Uint8

__all__ = ["digits", "twinvec", "worker"]

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "mnist-sample.npz"


@pytest.fixture(scope="session")
def digits() -> Uint8:
    """(20, 28, 28), two of each class, in their order."""
    with np.load(SAMPLE) as sample:
        images, labels = sample["x_test"], sample["y_test"]
    chosen = [place for label in range(10) for place in np.flatnonzero(labels == label)[:2]]
    found: Uint8 = images[chosen]
    return found
