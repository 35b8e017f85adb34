"""The gate passes what its tower was trained on, and doubts most of what is no digit."""

import numpy as np
import pytest

from training.arrays import Float32, Uint8
from training.data.dataset import Dataset
from training.fit.gate import Gate


def vectors_of(glyphs: Uint8) -> Float32:
    """Stand-ins for a tower's: 7x7 levels."""
    levels: Float32 = glyphs.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49).astype(np.float32) / 255
    return levels


@pytest.fixture(scope="module")
def gate(sample: Dataset) -> Gate:
    images, held_out = sample.train_images, sample.test_images[::2]
    return Gate.fit(images, sample.train_labels, vectors_of(images), held_out, vectors_of(held_out))


def test_digits_pass(gate: Gate, sample: Dataset) -> None:
    unseen = sample.test_images[1::2]
    assert gate.doubts(unseen, vectors_of(unseen)).mean() < 0.06


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda images: 255 - images,
        lambda images: np.random.default_rng(0).integers(0, 256, images.shape, np.uint8),
        lambda images: np.maximum(images, (np.arange(28) % 7 < 2).astype(np.uint8) * 200),  # lines down the paper
    ],
    ids=["inverted", "noise", "lines"],
)
def test_what_is_no_digit_is_doubted(gate: Gate, sample: Dataset, spoilt: object) -> None:
    images = np.ascontiguousarray(spoilt(sample.test_images))  # type: ignore[operator]
    assert gate.doubts(images, vectors_of(images)).mean() > 0.9


def test_it_is_read_as_it_was_written(gate: Gate, sample: Dataset) -> None:
    again = Gate.from_bytes(gate.to_bytes())
    images = sample.test_images
    assert again.measure(images, vectors_of(images)) == pytest.approx(
        gate.measure(images, vectors_of(images)), rel=1e-4
    )
    assert again.to_bytes() == gate.to_bytes()


def test_damaged_bytes_are_refused(gate: Gate) -> None:
    stored = bytearray(gate.to_bytes())
    stored[1000] ^= 1
    with pytest.raises(ValueError, match="digest"):
        Gate.from_bytes(bytes(stored))


def test_a_class_of_one_image_has_a_gate(sample: Dataset) -> None:
    labels = sample.train_labels.copy()
    labels[0] = 77
    images = sample.train_images
    gate = Gate.fit(images, labels, vectors_of(images), images[:1], vectors_of(images[:1]))
    assert np.isfinite(gate.measure(images, vectors_of(images))).all()
