"""Digits of MNIST, few enough to train on in a test."""

from tests.training.conftest import sample

__all__ = ["sample"]
