"""A tower made ready to embed: compiled, and called with as many images at once as memory has room for.

It must not know where the tower and the images come from.
"""

from __future__ import annotations

import numpy as np
from keras import layers

from training.arrays import DIMENSIONS, PIXELS, AnyArray, Float32, Uint8
from training.backend import keras
from training.model.bucketing import BUCKETS, BucketedCall
from training.model.dense import check_glyphs


class Embedder:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 128) float32, row by row.

    It is compiled for each of BUCKETS and never again, and goes on with smaller ones where memory runs out.
    """

    def __init__(self, tower: keras.Model) -> None:
        # Bytes go in and are scaled in the compiled call: 227,000 images a second on 2 cores instead of 152,000.
        pixels = keras.Input((PIXELS,), dtype="uint8")
        self._model = keras.Model(pixels, tower(layers.Rescaling(1 / 255)(pixels)))
        self._weights = tower.get_weights()
        self._may_lack_weights = False
        self._bucketed = BucketedCall(self._compute, DIMENSIONS)

    def __call__(self, images: AnyArray) -> Float32:
        """Raises TowerError for arrays that are not glyphs, and what the backend raises."""
        check_glyphs(images)
        return self._bucketed(images.reshape(-1, PIXELS))

    def warm_up(self) -> None:
        """Compile every bucket."""
        for size in BUCKETS:
            self(np.zeros((size, PIXELS), np.uint8))

    def _compute(self, pixels: Uint8) -> Float32:
        """(n, 784) uint8 -> (n, 128) float32 in one call of the backend."""
        if self._may_lack_weights:
            self._model.set_weights(self._weights)
        self._may_lack_weights = True  # JAX is lent the weights, and a call that fails does not return them
        vectors: Float32 = self._model.predict_on_batch(pixels)
        self._may_lack_weights = False
        return vectors
