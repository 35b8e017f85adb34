"""Digits of MNIST, few enough to train on in a test, and a client of a worker that answers."""

from tests.serving import tv
from tests.training.conftest import sample

__all__ = ["sample", "tv"]
