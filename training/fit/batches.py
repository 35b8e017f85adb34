"""The batches of a training: pairs or images, made on request, in an order that the seed decides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from training.arrays import PIXELS, AnyArray, Float32, Uint8
from training.backend import keras
from training.data.dataset import JudgedImages
from training.fit.augment import warped, weakened
from training.fit.pairs import Pairs
from training.model.all_pairs import judged_codes
from training.model.siamese import scaled
from training.recipes import Recipe

JUDGED = 16  # pairs in a batch of images: a few thousand times each, of some dozens, in a training by `default`


class _Shuffled(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches whose order, and all else that is random, is decided by one generator, epoch after epoch.

    order: of the epoch that is under way, or of the next one; rng: None where the order stays.
    """

    order: AnyArray
    rng: np.random.Generator | None

    def __init__(self) -> None:
        super().__init__()
        self.epochs_done = 0
        self._from: dict[str, Any] | None = None

    def go_on(self, *, order: AnyArray, rng: dict[str, Any], epochs_done: int) -> None:
        """Begin the next epoch from here: Keras shuffles, and may draw a batch or two, before it begins one.

        rng: the state of a bit generator. Raises ValueError where the order is of other data.
        """
        if len(order) != len(self.order):
            raise ValueError(f"an order of {len(order)} for {len(self.order)}")
        self._from = {"order": order, "rng": rng, "epochs_done": epochs_done}

    def on_epoch_begin(self) -> None:
        if self._from is not None:
            self.order, self.epochs_done = self._from["order"].copy(), self._from["epochs_done"]
            if self.rng is not None:
                self.rng.bit_generator.state = self._from["rng"]
            self._from = None

    def on_epoch_end(self) -> None:
        if self.rng is not None:
            self.rng.shuffle(self.order)
        self.epochs_done += 1


class PairBatches(_Shuffled):
    """Pairs as ((b, 784), (b, 784)) float32 with (b, 1) float32 `same`.

    pixels: (n, 784) float32, gathered batch by batch: 120,000 pairs of them would be 750 MB. rng: shuffles the pairs
    every epoch; None keeps their order.
    """

    def __init__(self, pixels: Float32, pairs: Pairs, batch_size: int, rng: np.random.Generator | None) -> None:
        super().__init__()
        self.pixels, self.pairs, self.batch_size, self.rng = pixels, pairs, batch_size, rng
        self.order = np.arange(len(pairs.one))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[tuple[Float32, Float32], Float32]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        one, other = self.pixels[self.pairs.one[chosen]], self.pixels[self.pairs.other[chosen]]
        return (one, other), self.pairs.same[chosen]


class ImageBatches(_Shuffled):
    """Images as (b, 784) float32 in 0..1 with (b, 1) labels, shuffled every epoch, each time with new distortions.

    images: (n, 28, 28) uint8. The rest, too few for a batch, is left out until the next shuffle, so that every
    batch has the same shape and the model is compiled once. judged: pairs, of which some are drawn for every batch and
    follow its images, with the labels of `judged_codes`.
    """

    rng: np.random.Generator

    def __init__(
        self,
        images: Uint8,
        labels: Uint8,
        recipe: Recipe,
        rng: np.random.Generator,
        judged: JudgedImages | None = None,
    ) -> None:
        super().__init__()
        self.judged = judged
        self.images, self.labels = images.reshape(-1, PIXELS), labels.reshape(-1, 1)
        self.recipe, self.rng = recipe, rng
        self.batch_size = min(recipe.batch_size, len(images))
        self.order = rng.permutation(len(images))

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[Float32, AnyArray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images, labels = self.images[chosen], self.labels[chosen]
        if self.judged is None:
            return self._pixels(images), labels
        drawn = self.rng.integers(len(self.judged.same), size=min(JUDGED, len(self.judged.same)))
        twins = np.stack([self.judged.one[drawn], self.judged.other[drawn]], axis=1).reshape(-1, PIXELS)
        codes = judged_codes(self.judged.same[drawn])
        return self._pixels(np.concatenate([images, twins])), np.concatenate([labels.astype(np.int32), codes])

    def _pixels(self, images: Uint8) -> Float32:
        warp = self.recipe.warp
        if warp is None:
            return scaled(images)
        return warped(images, weakened(warp, self.epochs_done / self.recipe.epochs), self.rng)
