"""A folded tower is plain, and maps as the network it came from."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from training.data.dataset import Dataset
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network, scaled
from training.model.storage import fingerprint, load, save
from training.recipes import RECIPES


def with_other_weights(network: Any) -> Any:
    """The network with every weight changed, as after a training, the running statistics as well."""
    rng = np.random.default_rng(0)
    for layer in network.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            shape = weights[0].shape
            weights = [rng.uniform(0.5, 2, shape), rng.normal(0, 1, shape), rng.normal(0, 1, shape)]
            weights.append(rng.uniform(0.2, 3, shape))
        layer.set_weights([np.asarray(values, np.float32) for values in weights])
    return network


@pytest.mark.parametrize("name", RECIPES)
def test_a_folded_tower_maps_as_its_network(name: str, sample: Dataset) -> None:
    network = with_other_weights(build_network(RECIPES[name], seed=1))
    pixels = scaled(sample.train_images)
    expected = network.predict(pixels, verbose=0)
    found = folded(network).predict(pixels, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_folded_tower_is_stored_and_embeds_like_any(name: str, sample: Dataset) -> None:
    tower = folded(with_other_weights(build_network(RECIPES[name], seed=1)))
    stored = load(save(tower))
    assert fingerprint(stored) == fingerprint(tower)
    assert not any(isinstance(layer, layers.BatchNormalization | layers.Rescaling) for layer in stored.layers)
    expected = tower.predict(scaled(sample.test_images), verbose=0)
    np.testing.assert_allclose(Embedder(stored)(sample.test_images), expected, rtol=1e-4, atol=1e-5)


def test_a_dense_tower_keeps_the_shape_it_always_had() -> None:
    for name in ("notebook", "quick", "default"):
        tower = folded(build_network(RECIPES[name], seed=0))
        assert [weights.shape for weights in tower.get_weights()] == [
            (784, 512), (512,), (512, 256), (256,), (256, 128), (128,),
        ]  # fmt: skip
        assert [layer.activation.__name__ for layer in tower.layers] == ["relu", "relu", "linear"]


def test_weights_follow_from_the_seed() -> None:
    for name, recipe in RECIPES.items():
        first, again, other = (folded(build_network(recipe, seed=seed)) for seed in (5, 5, 6))
        assert fingerprint(first) == fingerprint(again), name
        assert fingerprint(first) != fingerprint(other), name


def test_a_tower_folds_to_itself(sample: Dataset) -> None:
    tower = keras.Sequential([keras.Input((784,)), layers.Dense(8, activation="relu"), layers.Dense(4)])
    assert fingerprint(folded(tower)) == fingerprint(tower)
    assert [layer.activation.__name__ for layer in folded(tower).layers] == ["relu", "linear"]
