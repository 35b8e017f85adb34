"""Networks as they are trained: a tower's layers, with what helps training and is folded away afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training.recipes import Recipe
from training.towers import DIMENSIONS, PIXELS, SIDE

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


class AllDistances(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """(n, d) embeddings -> (n, n) Euclidean distances, of all to all."""

    def call(self, embeddings: Any) -> Any:
        squares = ops.sum(ops.square(embeddings), axis=1, keepdims=True)
        products = ops.matmul(embeddings, ops.transpose(embeddings))
        # sqrt'(0) is infinite, and every image is its own partner.
        return ops.sqrt(ops.maximum(squares + ops.transpose(squares) - 2 * products, 1e-6))


def build_batch_model(network: Any) -> Any:
    """Images (n, 784) through the one network -> the distances (n, n) of all to all."""
    pixels = keras.Input((PIXELS,))
    return keras.Model(pixels, AllDistances()(network(pixels)))
