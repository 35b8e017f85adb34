"""The Siamese network on one page: the tower's layers, its twins, their distance and the contrastive loss.

How it is fitted is in `training.fit`; how all pairs inside a batch are compared at once, in `all_pairs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training.recipes import Recipe

Array = np.ndarray[Any, Any]

SIDE = 28  # pixels
PIXELS = SIDE * SIDE
DIMENSIONS = 128


class EuclideanDistance(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """((n, d), (n, d)) -> (n, 1), row by row."""

    def call(self, twins: tuple[Any, Any]) -> Any:
        one, other = twins
        squares = ops.sum(ops.square(one - other), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, 1e-12))  # sqrt'(0) is infinite, and a picture may be its own twin


def build_twins(tower: Any) -> Any:
    """Two inputs (n, 784) through the one tower, so that weights are shared -> the distance (n, 1) of each pair."""
    one, other = keras.Input((PIXELS,)), keras.Input((PIXELS,))
    return keras.Model([one, other], EuclideanDistance()([tower(one), tower(other)]))


def scaled(images: Array) -> Array:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 784) float32 in 0..1."""
    return np.divide(images.reshape(-1, PIXELS), 255, dtype=np.float32)


MOMENTUM = 0.95  # of the running statistics: Keras's 0.99 needs 500 batches, and small data have fewer


def build_network(recipe: Recipe, *, seed: int) -> Any:
    """(n, 784) float32 in 0..1 -> (n, 128) embeddings times `recipe.scale`; the same weights for the same seed."""
    seeds = _seeds(seed)
    body = _dense_body(recipe, seeds) if recipe.tower == "dense" else _conv_body(recipe, seeds)
    scale = [layers.Rescaling(recipe.scale)] if recipe.scale != 1 else []
    return keras.Sequential([keras.Input((PIXELS,)), *body, _dense(DIMENSIONS, seeds), *scale])


def _dense_body(recipe: Recipe, seeds: Iterator[int]) -> list[Any]:
    """784 -> 512 -> 256."""
    return [layer for units in (512, 256) for layer in _activated(_dense(units, seeds), recipe)]


def _conv_body(recipe: Recipe, seeds: Iterator[int]) -> list[Any]:
    """28x28 -> 12x12x32 -> 5x5x64 -> 3x3x128 -> 1152. Strides, because pooling would cost half as much again."""
    return [
        layers.Reshape((SIDE, SIDE, 1)),
        *_activated(_conv(32, 5, seeds, strides=2), recipe),
        *_activated(_conv(64, 3, seeds, strides=2), recipe),
        *_activated(_conv(128, 3, seeds), recipe),
        layers.Flatten(),
    ]


def _activated(layer: Any, recipe: Recipe) -> list[Any]:
    return [layer, *([layers.BatchNormalization(momentum=MOMENTUM)] if recipe.normalised else []), layers.ReLU()]


def _dense(units: int, seeds: Iterator[int]) -> Any:
    return layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)))


def _conv(filters: int, size: int, seeds: Iterator[int], strides: int = 1) -> Any:
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Conv2D(filters, size, strides=strides, kernel_initializer=initializer)


def _seeds(seed: int) -> Iterator[int]:
    return iter(np.random.SeedSequence(seed).generate_state(8).tolist())


def contrastive_loss(different: Any, distance: Any, margin: float = 1.0) -> Any:
    """(n, 1) of 0 (the twins show the same digit) or 1 (different digits), (n, 1) distances -> (n, 1) losses.

    Same pulls: d^2 / 2. Different pushes, up to the margin: max(0, margin - d)^2 / 2.
    """
    different = ops.cast(different, distance.dtype)
    pull = (1 - different) / 2 * ops.square(distance)
    push = different / 2 * ops.square(ops.maximum(0.0, margin - distance))
    return pull + push
