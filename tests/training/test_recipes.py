"""Every recipe learns, gives the same tower for the same seed, and stops with the best epoch it had."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from training.arrays import Float32
from training.data.dataset import Dataset
from training.fit.batches import ImageBatches
from training.fit.progress import Progress
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.siamese import scaled
from training.model.storage import fingerprint, load
from training.recipes import RECIPES

SMALL = {
    name: replace(RECIPES[name], epochs=epochs, batch_size=50)
    for name, epochs in (("quick", 6), ("default", 8), ("conv", 8))
}

pytestmark = pytest.mark.usefixtures("costly")


def test_reading_recipes_loads_no_keras() -> None:
    code = "import training.recipes, sys; print('keras' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", ["progress", "evaluation", "pairs", "augment"])
def test_what_needs_no_network_loads_no_keras(module: str) -> None:
    code = f"import training.fit.{module}, sys; print('keras' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]


def test_a_recipe_goes_by_its_name_and_says_what_it_does() -> None:
    assert list(RECIPES) == [recipe.name for recipe in RECIPES.values()]
    assert {"notebook", "quick", "default", "conv", "best"} <= RECIPES.keys()


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_learns_from_a_few_hundred_digits(name: str, sample: Dataset) -> None:
    trained = train(SMALL[name], sample, seed=0)
    assert trained.metrics["pair_accuracy"] > 0.8
    assert trained.metrics["nearest_1"] > 0.8
    assert trained.history["loss"][-1] < trained.history["loss"][0]
    assert trained.history["binary_accuracy"][-1] > trained.history["binary_accuracy"][0]
    # What was measured is what is stored.
    embed = Embedder(load(trained.file))
    gallery, queries = embed(sample.train_images), embed(sample.test_images)
    nearest = np.linalg.norm(queries[:, None] - gallery[None], axis=2).argmin(axis=1)
    right = np.mean(sample.train_labels[nearest] == sample.test_labels)
    assert trained.metrics["nearest_1"] == pytest.approx(right, abs=2 / len(queries))


@pytest.mark.parametrize("name", ["default", "conv"])
def test_the_same_seed_trains_the_same_tower(name: str, sample: Dataset) -> None:
    recipe = replace(SMALL[name], epochs=1)
    first, second = train(recipe, sample, seed=3), train(recipe, sample, seed=3)
    assert first.fingerprint == second.fingerprint
    assert first.history == second.history


def test_what_is_known_of_a_whole_training_is_small_and_json(sample: Dataset) -> None:
    trained = train(replace(SMALL["quick"], epochs=2), sample, seed=0)
    metrics = trained.metrics
    assert len(json.dumps(metrics)) < 8192
    assert metrics["epochs"] == len(trained.history["loss"]) == 2
    assert "kept_epoch" not in metrics
    calibration = metrics["calibration"]
    assert trained.threshold == calibration["threshold"]
    assert calibration["images"] + calibration["checked_on"] == len(sample.test_images)
    assert calibration["vote"]["classes"] == 10
    assert calibration["vote"]["accuracy"] > 0.8
    assert 0 <= calibration["vote"]["error"] < 0.2
    assert metrics["best_pair_accuracy"] >= metrics["pair_accuracy"]
    assert trained.fingerprint == fingerprint(load(trained.file))


def test_a_training_asked_to_stop_keeps_its_best_epoch(sample: Dataset) -> None:
    """At a learning rate that ruins the weights after the first epochs, the last are not the best."""
    recipe = replace(SMALL["quick"], epochs=30, cosine=False, learning_rate=0.3, normalised=False)
    losses: list[float] = []

    def note(progress: Progress) -> None:
        if progress.step == progress.steps:
            losses.append(progress.metrics["loss"])

    def risen() -> bool:
        return len(losses) > 2 and losses[-1] > min(losses)

    trained = train(recipe, sample, seed=0, on_progress=note, should_stop=risen)
    kept = int(np.argmin(trained.history["loss"])) + 1
    assert trained.metrics["kept_epoch"] == kept < trained.metrics["epochs"] < 30
    whole = train(replace(recipe, epochs=kept), sample, seed=0)
    assert trained.fingerprint == whole.fingerprint


def test_a_batch_is_never_larger_than_the_data(sample: Dataset) -> None:
    recipe = replace(RECIPES["default"], batch_size=10_000)
    batches = ImageBatches(sample.train_images, sample.train_labels, recipe, np.random.default_rng(0))
    pixels, labels = batches[0]
    assert len(batches) == 1
    assert (pixels.shape, labels.shape) == ((800, 784), (800, 1))


def test_each_epoch_brings_every_image_once_in_another_order(sample: Dataset) -> None:
    recipe = replace(RECIPES["quick"], batch_size=100)
    batches = ImageBatches(sample.train_images, sample.train_labels, recipe, np.random.default_rng(0))
    orders: list[Float32] = []
    for _ in range(2):
        pixels = np.concatenate([batches[place][0] for place in range(len(batches))])
        orders.append(pixels)
        assert {row.tobytes() for row in pixels} == {row.tobytes() for row in scaled(sample.train_images)}
        batches.on_epoch_end()
    assert not np.array_equal(orders[0], orders[1])
