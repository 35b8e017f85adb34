"""A training learns, reports how far it is, and gives the same tower for the same seed."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from training.data.dataset import Dataset, JudgedImages
from training.errors import DataError, TrainingError
from training.fit.progress import Progress
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.storage import fingerprint, load
from training.recipes import DEFAULT, NOTEBOOK, RECIPES, Recipe

ANOTHER = f"""
from dataclasses import replace
from pathlib import Path
from training.data.mnist import read_npz
from training.fit.train import train
from training.recipes import DEFAULT
sample = read_npz(Path({str(Path(__file__).parents[1] / "data" / "mnist-sample.npz")!r}))
print(train(replace(DEFAULT, epochs=2), sample, seed=3).fingerprint)
"""
SHORT = replace(NOTEBOOK, epochs=2)

pytestmark = pytest.mark.usefixtures("costly")


def test_the_notebook_is_trained_as_it_stands() -> None:
    recipe = RECIPES["notebook"]
    assert (recipe.epochs, recipe.batch_size, recipe.margin, recipe.threshold) == (5, 32, 1.0, 0.5)


def test_a_short_training_learns_what_a_digit_is(sample: Dataset) -> None:
    trained = train(NOTEBOOK, sample, seed=0)
    assert trained.history["loss"][-1] < trained.history["loss"][0] / 3
    assert len(trained.history["val_loss"]) == 5
    assert trained.metrics["pair_accuracy"] > 0.8
    # The nearest of 800 digits shows the same digit: by what is stored, not by what was in memory.
    embedder = Embedder(load(trained.file))
    gallery, queries = embedder(sample.train_images), embedder(sample.test_images)
    nearest = np.linalg.norm(queries[:, None] - gallery[None], axis=2).argmin(axis=1)
    assert np.mean(sample.train_labels[nearest] == sample.test_labels) > 0.8


def test_the_steps_of_a_training_take_no_new_memory_of_the_system(sample: Dataset) -> None:
    seen: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        done = (progress.epoch - 1) * progress.steps + progress.step
        seen.append((done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt))

    train(replace(NOTEBOOK, epochs=4), sample, seed=0, on_progress=note)
    (earlier, faults_then), (last, faults) = seen[len(seen) // 2], seen[-1]
    assert faults - faults_then < 1000 * (last - earlier)


def test_what_is_known_of_a_training_is_its_own(sample: Dataset) -> None:
    trained = train(SHORT, sample, seed=7)
    assert trained.fingerprint == fingerprint(load(trained.file))
    assert trained.settings["epochs"] == 2
    assert (trained.recipe, trained.seed, trained.data_digest) == ("notebook", 7, sample.digest)
    assert trained.versions[trained.versions["backend"]]
    assert trained.cpu_seconds > 0
    assert trained.seconds > 0


def test_the_same_seed_trains_the_same_tower(sample: Dataset) -> None:
    first, second, other = (train(SHORT, sample, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == second.fingerprint
    assert first.history == second.history
    assert first.fingerprint != other.fingerprint


def test_another_process_trains_the_same_tower(sample: Dataset) -> None:
    recipe = replace(DEFAULT, epochs=2)  # as random as a recipe is
    done = subprocess.run([sys.executable, "-c", ANOTHER], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == train(recipe, sample, seed=3).fingerprint


def test_every_epoch_is_reported_and_time_left_runs_out(sample: Dataset) -> None:
    seen: list[Progress] = []
    train(SHORT, sample, seed=0, on_progress=seen.append)
    ends = [progress for progress in seen if progress.step == progress.steps]
    assert [progress.epoch for progress in ends] == [1, 2]
    assert ends[0].steps == 50  # 1,600 pairs in batches of 32
    assert {"loss", "val_loss", "binary_accuracy", "val_binary_accuracy"} <= set(ends[0].metrics)
    assert ends[0].remaining > 0
    assert ends[1].remaining == 0
    assert [progress.seconds for progress in seen] == sorted(progress.seconds for progress in seen)


def test_what_progress_raises_ends_the_training(sample: Dataset) -> None:
    def refuse(progress: Progress) -> None:
        raise RuntimeError(f"enough after epoch {progress.epoch}")

    with pytest.raises(RuntimeError, match="enough after epoch 1"):
        train(SHORT, sample, seed=0, on_progress=refuse)


def test_a_training_asked_to_stop_returns_what_it_has(sample: Dataset) -> None:
    trained = train(NOTEBOOK, sample, seed=0, should_stop=lambda: True)
    assert len(trained.history["loss"]) == 1
    assert load(trained.file)


def test_one_digit_alone_cannot_be_trained_on(sample: Dataset) -> None:
    lonely = replace(sample, train_labels=np.zeros_like(sample.train_labels))
    with pytest.raises(DataError, match="two classes"):
        train(SHORT, lonely, seed=0)


def test_epochs_are_printed_as_keras_prints_them(sample: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    train(SHORT, sample, seed=0, verbose=1)
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert "50/50" in printed
    assert "val_binary_accuracy" in printed


def test_a_training_that_diverges_makes_no_tower(sample: Dataset) -> None:
    wild = replace(SHORT, learning_rate=1e30)
    with pytest.raises(TrainingError, match="diverged"):
        train(wild, sample, seed=0)


@pytest.mark.parametrize("recipe", [replace(NOTEBOOK, epochs=3), replace(RECIPES["quick"], epochs=20)])
def test_judged_pairs_are_learnt_from(sample: Dataset, recipe: Recipe) -> None:
    """Of digits that a training without them tells apart, it is said that they show the same."""
    ones, sevens = (sample.train_images[sample.train_labels == label][:20] for label in (1, 7))
    said = replace(sample, judged=JudgedImages(ones, sevens, np.ones(20, np.bool_)))
    assert said.digest != sample.digest
    without, with_them = (_apart(train(recipe, data, seed=0).tower, ones, sevens) for data in (sample, said))
    assert with_them < 0.8 * without


def _apart(tower: keras.Model, one: np.ndarray, other: np.ndarray) -> float:
    """The mean distance of pairs of images."""
    embedder = Embedder(tower)
    return float(np.linalg.norm(embedder(one) - embedder(other), axis=1).mean())
