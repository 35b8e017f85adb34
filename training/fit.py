"""Train a tower by a recipe, and measure it."""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from training.dataset import Dataset
from training.losses import contrastive_loss
from training.pairs import Pairs, draw_pairs
from training.recipes import Recipe
from training.towers import build_tower, build_twins, fingerprint, save, scaled

Array = np.ndarray[Any, Any]

REPORT_EVERY = 0.5  # seconds, at most
STEPS_PER_EXECUTION = 25  # batches a call of the backend: the same sums, a quarter of the CPU time less


@dataclass(frozen=True)
class Progress:
    """How far a training is. epoch and step count from 1; seconds so far, and remaining as it goes now."""

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float
    remaining: float


@dataclass(frozen=True)
class Trained:
    """A tower and all that is known of it."""

    tower: Any
    file: bytes  # `.keras`
    fingerprint: str
    recipe: str
    settings: dict[str, Any]  # the recipe, field by field
    seed: int
    data_digest: str
    versions: dict[str, str]
    history: dict[str, list[float]]  # a value an epoch
    metrics: dict[str, float]
    threshold: float
    seconds: float
    cpu_seconds: float


def train(
    recipe: Recipe,
    data: Dataset,
    *,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
    verbose: int | str = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train by a recipe, the same way for the same seed.

    on_progress: called at the end of every epoch, and in between at most twice a second; what it raises ends the
    training and is raised here. should_stop: asked as often; once it says so, no further batch is trained on and
    the tower is returned as it is. verbose: as Keras's `fit`, 1 prints a bar an epoch.
    """

    def loss(different: Any, distance: Any) -> Any:
        return contrastive_loss(different, distance, recipe.margin)

    start, cpu_start = time.perf_counter(), time.process_time()
    rng = np.random.default_rng(seed)
    train_pixels, test_pixels = scaled(data.train_images), scaled(data.test_images)
    train_pairs, test_pairs = draw_pairs(data.train_labels, rng), draw_pairs(data.test_labels, rng)
    tower = build_tower(seed=seed)
    twins = build_twins(tower)
    twins.compile(
        loss=loss,
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        metrics=[keras.metrics.BinaryAccuracy(threshold=recipe.threshold)],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    history = twins.fit(
        _PairBatches(train_pixels, train_pairs, recipe.batch_size, rng),
        validation_data=_PairBatches(test_pixels, test_pairs, 1000, None),
        epochs=recipe.epochs,
        callbacks=[_Reporter(on_progress, should_stop)],
        shuffle=False,  # the batches shuffle themselves, by the seed
        verbose=verbose,
    ).history
    history = {name: [float(value) for value in values] for name, values in history.items()}
    return Trained(
        tower=tower,
        file=save(tower),
        fingerprint=fingerprint(tower),
        recipe=recipe.name,
        settings=asdict(recipe),
        seed=seed,
        data_digest=data.digest,
        versions=versions(),
        history=history,
        metrics={"pair_accuracy": history["val_binary_accuracy"][-1]},
        threshold=recipe.threshold,
        seconds=time.perf_counter() - start,
        cpu_seconds=time.process_time() - cpu_start,
    )


def versions() -> dict[str, str]:
    """Of what a training depends on."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.__version__,
        "backend": backend,
        backend: sys.modules[backend].__version__,  # loaded by Keras, whichever it is
    }


class _PairBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of pairs, gathered when asked for: 120,000 pairs of float32 would be 750 MB."""

    def __init__(self, pixels: Array, pairs: Pairs, batch_size: int, rng: np.random.Generator | None) -> None:
        super().__init__()
        self.pixels, self.pairs, self.batch_size, self.rng = pixels, pairs, batch_size, rng
        self.order = np.arange(len(pairs.one))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[tuple[Array, Array], Array]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        one, other = self.pixels[self.pairs.one[chosen]], self.pixels[self.pairs.other[chosen]]
        return (one, other), self.pairs.different[chosen]

    def on_epoch_end(self) -> None:
        if self.rng is not None:
            self.rng.shuffle(self.order)


class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Tells how far the training is, and ends it when asked to."""

    def __init__(self, report: Callable[[Progress], None] | None, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self.report, self.should_stop = report, should_stop
        self.start = self.reported = time.perf_counter()
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if time.perf_counter() - self.reported >= REPORT_EVERY and batch + 1 < self.params["steps"]:
            self._report(batch + 1, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._report(self.params["steps"], logs or {})

    def _report(self, step: int, logs: dict[str, float]) -> None:
        self.reported = time.perf_counter()
        self.model.stop_training = self.should_stop()
        if self.report is None:
            return
        seconds = self.reported - self.start
        epochs, steps = self.params["epochs"], self.params["steps"]
        done = (self.epoch - 1) * steps + step
        self.report(
            Progress(
                epoch=self.epoch,
                epochs=epochs,
                step=step,
                steps=steps,
                metrics={name: float(value) for name, value in logs.items()},
                seconds=seconds,
                remaining=seconds / done * (epochs * steps - done),
            )
        )
