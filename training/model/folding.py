"""A trained network as a plain tower: what only helped training is folded into the weights beside it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from training.model.siamese import PIXELS

LINEAR = (layers.Dense, layers.Conv2D)

Array = np.ndarray[Any, Any]


def folded(network: Any) -> Any:
    """A tower of Dense, Conv2D, MaxPooling2D, Reshape and Flatten that maps as the network does at inference.

    Normalisation and scaling follow a linear layer directly, and become part of its kernel and bias.
    """
    plain: list[Any] = []
    weights: list[tuple[Array, Array]] = []  # of the linear layers, kernel and bias in float64
    for layer in network.layers:
        if isinstance(layer, LINEAR):
            plain.append(_copy(layer, dtype="float32"))
            kernel, bias = layer.get_weights()
            weights.append((kernel.astype(np.float64), bias.astype(np.float64)))
        elif isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = (values.astype(np.float64) for values in layer.get_weights())
            gain = gamma / np.sqrt(variance + layer.epsilon)
            kernel, bias = weights[-1]
            weights[-1] = kernel * gain, (bias - mean) * gain + beta
        elif isinstance(layer, layers.Rescaling):
            kernel, bias = weights[-1]
            weights[-1] = kernel * layer.scale, bias * layer.scale + layer.offset
        elif isinstance(layer, layers.ReLU):
            plain[-1] = _copy(plain[-1], activation="relu")
        else:
            plain.append(_copy(layer))
    tower = keras.Sequential([keras.Input((PIXELS,)), *plain])
    tower.set_weights([values.astype(np.float32) for pair in weights for values in pair])
    return tower


def _copy(layer: Any, **changes: Any) -> Any:
    """A layer of the same kind and settings, without weights."""
    return type(layer).from_config(layer.get_config() | changes)
