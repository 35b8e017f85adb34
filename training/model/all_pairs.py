"""All pairs inside a batch of images: their distances, loss and accuracy, for recipes that draw no pairs.

The tower is the one of `siamese`, used once for each image of the batch instead of twice for each pair.

A batch may end with judged pairs, two images each, that have no label: what somebody said relates these two alone.
"""

from __future__ import annotations

import numpy as np
from keras import layers, ops

from training.arrays import PIXELS, Bool, Int32
from training.backend import keras
from training.model.siamese import Tensor


def build_batch_model(tower: keras.Model) -> keras.Model:
    """Images (n, 784) through the tower -> the distances (n, n) of all to all."""
    pixels = keras.Input((PIXELS,))
    return keras.Model(pixels, AllDistances()(tower(pixels)))


class AllDistances(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """(n, d) embeddings -> (n, n) Euclidean distances, of all to all."""

    def call(self, embeddings: Tensor) -> Tensor:
        squares = ops.sum(ops.square(embeddings), axis=1, keepdims=True)
        products = ops.matmul(embeddings, ops.transpose(embeddings))
        # sqrt'(0) is infinite, and every image is also compared with itself.
        return ops.sqrt(ops.maximum(squares + ops.transpose(squares) - 2 * products, 1e-6))


def all_pairs_loss(
    labels: Tensor, distances: Tensor, *, margin: float, slack: float, hardness: float, judged: bool = False
) -> Tensor:
    """(n, 1) labels, (n, n) distances of all images to all -> the contrastive loss of all pairs, one number.

    Half the mean pull of the same pairs (no image paired with itself), as far as they lie beyond the slack, and half
    the push of the different ones, as far as they lie within the margin. Most different pairs soon push no more: a
    mean over all of them makes the few that still do too weak, and a mean over those few alone makes the distances
    grow without bound. The sum is divided by all^(1 - hardness) * pushing^hardness. judged: as of `related_pairs`.
    """
    same, different = related_pairs(labels, distances.dtype, judged=judged)
    count = ops.cast(ops.shape(distances)[0], distances.dtype)
    same_count = ops.sum(same)
    shortfall = different * ops.maximum(0.0, margin - distances)
    pushing = ops.sum(ops.cast(shortfall > 0, distances.dtype))
    weight = ops.power(ops.sum(different), 1 - hardness) * ops.power(pushing, hardness)
    pull = ops.sum(same * ops.square(ops.maximum(0.0, distances - slack))) / ops.maximum(same_count - count, 1.0)
    push = ops.sum(ops.square(shortfall)) / ops.maximum(weight, 1.0)
    return (pull + push) / 2


def all_pairs_accuracy(labels: Tensor, distances: Tensor, *, threshold: float, judged: bool = False) -> Tensor:
    """(n, 1) labels, (n, n) distances -> how often the threshold judges rightly, one number.

    The mean of the rates among same and among different pairs, as if there were as many of each.
    """
    same, different = related_pairs(labels, distances.dtype, judged=judged)
    count = ops.cast(ops.shape(distances)[0], distances.dtype)
    near = ops.cast(distances < threshold, distances.dtype)
    same_count = ops.sum(same)
    recognised = (ops.sum(near * same) - count) / ops.maximum(same_count - count, 1.0)
    mistaken = ops.sum(near * different) / ops.maximum(ops.sum(different), 1.0)
    return (recognised + 1 - mistaken) / 2


def judged_codes(same: Bool) -> Int32:
    """(p,) bool -> (2p, 1): what stands for the labels of judged pairs, two images each, in their order.

    Below 0, the same for the two of a pair, and odd where they show the same.
    """
    codes: Int32 = -(2 * np.arange(1, len(same) + 1, dtype=np.int32) + same)
    return np.repeat(codes, 2)[:, None]


def related_pairs(labels: Tensor, dtype: str, *, judged: bool) -> tuple[Tensor, Tensor]:
    """(n, 1) labels -> (n, n) twice: 1 where two images, or an image and itself, are known to be the same, else 0; and
    1 where they are known to be different, else 0. judged: whether some labels are those of `judged_codes`.
    """
    equal = ops.cast(ops.equal(labels, ops.transpose(labels)), dtype)
    if not judged:
        return equal, 1 - equal
    labelled = ops.cast(labels >= 0, dtype)
    both = labelled * ops.transpose(labelled)
    said = (1 - both) * equal  # an image of a judged pair beside its twin or itself
    itself = ops.eye(ops.shape(labels)[0], dtype=dtype)
    is_same = ops.maximum(ops.cast(ops.equal(ops.mod(labels, 2), 1), dtype), itself)
    return both * equal + said * is_same, both * (1 - equal) + said * (1 - is_same)
