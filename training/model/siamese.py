"""The Siamese network, all of it on this page: the tower, its two twins, their distance and the contrastive loss.

    pixels (n, 784) ─> tower ─> embedding (n, 128) ─┐
                       same weights                 ├─> Euclidean distance (n, 1) ─> contrastive loss
    pixels (n, 784) ─> tower ─> embedding (n, 128) ─┘

Weights are fitted in `training.fit`. All pairs inside a batch are compared in `all_pairs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import layers, ops

from training.arrays import DIMENSIONS, PIXELS, SIDE, AnyArray, Float32
from training.backend import keras
from training.recipes import Recipe

MOMENTUM = 0.95  # of the running statistics: Keras's 0.99 needs 500 batches, and small data have fewer

Tensor = Any  # of the backend that Keras runs on
Layer = Any  # Keras has no types


def scaled(images: AnyArray) -> Float32:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 784) float32 in 0..1."""
    return np.divide(images.reshape(-1, PIXELS), 255, dtype=np.float32)


def build_network(recipe: Recipe, *, seed: int) -> keras.Sequential:
    """(n, 784) float32 in 0..1 -> (n, 128) embeddings times `recipe.scale`; the same weights for the same seed.

    This is the tower as it is trained. `folding.folded` makes the plain tower of it, which is stored.
    """
    seeds = iter(np.random.SeedSequence(seed).generate_state(8).tolist())
    hidden = dense_layers(recipe, seeds) if recipe.tower == "dense" else conv_layers(recipe, seeds)
    scale = [layers.Rescaling(recipe.scale)] if recipe.scale != 1 else []
    return keras.Sequential([keras.Input((PIXELS,)), *hidden, _dense(DIMENSIONS, seeds), *scale])


def dense_layers(recipe: Recipe, seeds: Iterator[int]) -> list[Layer]:
    """784 -> 512 -> 256."""
    return [
        *_activated(_dense(512, seeds), recipe),
        *_activated(_dense(256, seeds), recipe),
    ]


def conv_layers(recipe: Recipe, seeds: Iterator[int]) -> list[Layer]:
    """28x28 -> 12x12x32 -> 5x5x64 -> 3x3x128 -> 1152. Strides, because pooling would cost half as much again."""
    return [
        layers.Reshape((SIDE, SIDE, 1)),
        *_activated(_conv(32, 5, seeds, strides=2), recipe),
        *_activated(_conv(64, 3, seeds, strides=2), recipe),
        *_activated(_conv(128, 3, seeds), recipe),
        layers.Flatten(),
    ]


def _activated(layer: Layer, recipe: Recipe) -> list[Layer]:
    """The layer, normalised by batch if the recipe says so, and ReLU."""
    normalisation = [layers.BatchNormalization(momentum=MOMENTUM)] if recipe.normalised else []
    return [layer, *normalisation, layers.ReLU()]


def _dense(units: int, seeds: Iterator[int]) -> Layer:
    return layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)))


def _conv(filters: int, size: int, seeds: Iterator[int], strides: int = 1) -> Layer:
    initializer = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Conv2D(filters, size, strides=strides, kernel_initializer=initializer)


def build_twins(tower: keras.Model) -> keras.Model:
    """Two inputs (n, 784) through the one tower, so that weights are shared -> the distance (n, 1) of each pair."""
    one, other = keras.Input((PIXELS,)), keras.Input((PIXELS,))
    return keras.Model([one, other], EuclideanDistance()([tower(one), tower(other)]))


class EuclideanDistance(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """((n, d), (n, d)) -> (n, 1), row by row."""

    def call(self, twins: tuple[Tensor, Tensor]) -> Tensor:
        one, other = twins
        squares = ops.sum(ops.square(one - other), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, 1e-12))  # sqrt'(0) is infinite, and an image may be paired with itself


def contrastive_loss(same: Tensor, distance: Tensor, margin: float = 1.0) -> Tensor:
    """(n, 1) of 1 (the twins show the same digit) or 0 (different digits), (n, 1) distances -> (n, 1) losses.

    Same pulls: d^2 / 2. Different pushes, up to the margin: max(0, margin - d)^2 / 2. This is equation 4 of Hadsell,
    Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, whose Y is 1 - same.
    """
    same = ops.cast(same, distance.dtype)
    pull = same / 2 * ops.square(distance)
    push = (1 - same) / 2 * ops.square(ops.maximum(0.0, margin - distance))
    return pull + push


def pair_accuracy(same: Tensor, distance: Tensor, *, threshold: float) -> Tensor:
    """(n, 1) of 1 or 0, (n, 1) distances -> (n,): 1 where a pair is judged rightly, `same` up to the threshold."""
    judged_same = ops.cast(distance <= threshold, distance.dtype)
    right = ops.equal(ops.cast(same, distance.dtype), judged_same)
    return ops.mean(ops.cast(right, distance.dtype), axis=-1)
