"""Labelled glyphs, split in two: what a tower is trained on and what it is evaluated by.

It must not know where they come from.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from training.arrays import AnyArray, Bool, Uint8
from training.errors import DataError


class JudgedImages(NamedTuple):
    """Pairs of images, (p, 28, 28) uint8 each, and whether they show the same, (p,) bool, as somebody said."""

    one: Uint8
    other: Uint8
    same: Bool


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images (n, 28, 28) uint8, labels (n,) uint8, and where they came from; pairs to learn from beside them, if any.

    Raises DataError if shapes, dtypes or counts do not fit together.
    """

    train_images: Uint8
    train_labels: Uint8
    test_images: Uint8
    test_labels: Uint8
    source: str
    judged: JudgedImages | None = None

    def __post_init__(self) -> None:
        check("training", self.train_images, self.train_labels)
        check("test", self.test_images, self.test_labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all arrays, hex: the same for the same digits, labels and pairs in the same order."""
        digest = sha256()
        arrays: tuple[AnyArray, ...] = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        for array in (*arrays, *(self.judged or ())):
            digest.update(f"{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check(name: str, images: Uint8, labels: Uint8) -> None:
    """Raises DataError unless these are n 28x28 uint8 images with n uint8 labels, n > 0."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(
            f"The {name} images have the shape {images.shape} and dtype {images.dtype}; (n, 28, 28) uint8 is needed."
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise DataError(
            f"The {name} labels have the shape {labels.shape} and dtype {labels.dtype}; "
            f"({len(images)},) uint8 is needed, one for each image."
        )
    if not len(images):
        raise DataError(f"There are no {name} images.")
