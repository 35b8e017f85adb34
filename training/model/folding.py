"""A trained network as a plain tower: normalisation and scaling, which only help training, are folded into weights.

It must not know how the network was trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from training.arrays import PIXELS, Float64
from training.backend import keras
from training.model.siamese import Layer

LINEAR = (layers.Dense, layers.Conv2D)


def folded(network: keras.Sequential) -> keras.Sequential:
    """A tower of Dense, Conv2D, Reshape and Flatten that maps as the network does at inference.

    Normalisation and scaling follow a linear layer directly, and become part of its kernel and bias.
    """
    plain: list[Layer] = []
    weights: list[tuple[Float64, Float64]] = []  # of the linear layers, kernel and bias
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


def _copy(layer: Layer, **changes: Any) -> Layer:
    """A layer of the same kind and settings, without weights."""
    return type(layer).from_config(layer.get_config() | changes)
