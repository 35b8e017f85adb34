"""All pairs inside a batch of images: their distances, loss and accuracy, for recipes that draw no pairs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from training.model.siamese import PIXELS


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


def all_pairs_loss(labels: Any, distances: Any, *, margin: float, slack: float, hardness: float) -> Any:
    """(n, 1) labels, (n, n) distances of all images to all -> the loss of all pairs, one number.

    Half the mean pull of the same pairs (no image paired with itself), as far as they lie beyond the slack, and half
    the push of the different ones, as far as they lie within the margin. Most different pairs soon push no more: their
    mean would let the few that do starve, the mean over those few alone would blow the distances up. The sum is divided
    by all^(1 - hardness) * pushing^hardness.
    """
    same = same_pairs(labels, distances.dtype)
    count = ops.cast(ops.shape(distances)[0], distances.dtype)
    same_count = ops.sum(same)
    shortfall = (1 - same) * ops.maximum(0.0, margin - distances)
    pushing = ops.sum(ops.cast(shortfall > 0, distances.dtype))
    weight = ops.power(count * count - same_count, 1 - hardness) * ops.power(pushing, hardness)
    pull = ops.sum(same * ops.square(ops.maximum(0.0, distances - slack))) / ops.maximum(same_count - count, 1.0)
    push = ops.sum(ops.square(shortfall)) / ops.maximum(weight, 1.0)
    return (pull + push) / 2


def all_pairs_accuracy(labels: Any, distances: Any, *, threshold: float) -> Any:
    """(n, 1) labels, (n, n) distances -> how often the threshold judges rightly: the mean of the rates among same and
    among different pairs, as if there were as many of each."""
    same = same_pairs(labels, distances.dtype)
    count = ops.cast(ops.shape(distances)[0], distances.dtype)
    near = ops.cast(distances < threshold, distances.dtype)
    same_count = ops.sum(same)
    recognised = (ops.sum(near * same) - count) / ops.maximum(same_count - count, 1.0)
    mistaken = ops.sum(near * (1 - same)) / ops.maximum(count * count - same_count, 1.0)
    return (recognised + 1 - mistaken) / 2


def same_pairs(labels: Any, dtype: Any) -> Any:
    """(n, 1) labels -> (n, n): 1 where two images, or an image and itself, have the same label, else 0."""
    return ops.cast(ops.equal(labels, ops.transpose(labels)), dtype)
