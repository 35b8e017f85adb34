"""Train a tower by a recipe, and measure it. It must not know where the tower is stored, nor which process asks."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from training.arrays import Float32
from training.backend import keras
from training.data.dataset import Dataset
from training.data.files import checked
from training.errors import TrainingError
from training.fit.batches import ImageBatches, PairBatches
from training.fit.calibration import Calibration, calibrate
from training.fit.callbacks import Best, Reporter
from training.fit.evaluation import Evaluation, evaluate, neighbours
from training.fit.gate import Gate
from training.fit.pairs import draw_pairs
from training.fit.progress import Progress
from training.fit.vote import VOTERS
from training.model.all_pairs import all_pairs_accuracy, all_pairs_loss, build_batch_model
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import Tensor, build_network, build_twins, contrastive_loss, pair_accuracy, scaled
from training.model.storage import fingerprint, save
from training.recipes import Recipe

STEPS_PER_EXECUTION = 25  # batches a call of the backend: the same sums, a quarter of the CPU time less
VALIDATION_BATCH = 1000  # pairs


@dataclass(frozen=True)
class Trained:
    """A tower and all that is known of it."""

    tower: keras.Sequential
    file: bytes  # `.keras`
    fingerprint: str
    recipe: str
    settings: dict[str, Any]  # the recipe, field by field
    seed: int
    data_digest: str
    versions: dict[str, str]
    history: dict[str, list[float]]  # a value an epoch
    metrics: dict[str, Any]  # the fields of `Evaluation`, `calibration`, and what the training took
    threshold: float  # the distance that splits same from different best
    vectors: Float32  # (n, 128), of the training images
    gate: Gate
    seconds: float
    cpu_seconds: float


class TrainingPlan(NamedTuple):
    """What is fitted: the model that makes distances of the network's embeddings, and what it is fed with."""

    model: keras.Model
    loss: Callable[[Tensor, Tensor], Tensor]
    accuracy: Callable[[Tensor, Tensor], Tensor]  # shown as `binary_accuracy`
    batches: PairBatches | ImageBatches
    validation: PairBatches | None = None


def train(
    recipe: Recipe,
    data: Dataset,
    *,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
    verbose: int | str = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train by a recipe, the same way for the same seed, and evaluate on the test images.

    on_progress: called at the end of every epoch, and in between at most twice a second; an error that it raises ends
    the training and is raised here. should_stop: called as often; once it is true, no further batch is trained on, and
    the tower is the best so far: that of the epoch with the lowest loss. verbose: as Keras's `fit`, 1 prints a bar an
    epoch. Raises DataError if nothing can be learnt from the data, for instance if they have only one class, and
    TrainingError if the weights have become NaN.
    """
    checked(data)
    start, cpu_start = time.perf_counter(), time.process_time()
    network = build_network(recipe, seed=seed)
    plan = PLANS[recipe.pairs](recipe, network, data, np.random.default_rng(seed))
    history, kept = _fit(recipe, network, plan, [Reporter(on_progress, should_stop)], verbose)
    tower = folded(network)
    if not all(np.isfinite(weights).all() for weights in tower.get_weights()):
        raise TrainingError("the training diverged: the tower's weights hold NaN; lower the recipe's learning rate")
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    embed = Embedder(tower)
    vectors, queries = embed(data.train_images), embed(data.test_images)
    evaluation, calibration = measure(vectors, queries, data, threshold=recipe.threshold)
    measured = asdict(evaluation) | {"calibration": None if calibration is None else asdict(calibration)}
    took = {"seconds": seconds, "cpu_seconds": cpu_seconds, "epochs": len(history["loss"])}
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
        metrics=measured | took | kept,
        threshold=evaluation.best_threshold if calibration is None else calibration.threshold,
        vectors=vectors,
        gate=Gate.fit(data.train_images, data.train_labels, vectors, data.test_images, queries),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def plan_drawn_pairs(recipe: Recipe, network: keras.Model, data: Dataset, rng: np.random.Generator) -> TrainingPlan:
    """Two images a pair, drawn once, and validated on pairs of the test images."""
    train_pairs, test_pairs = draw_pairs(data.train_labels, rng), draw_pairs(data.test_labels, rng)
    return TrainingPlan(
        model=build_twins(network),
        loss=partial(contrastive_loss, margin=recipe.margin),
        accuracy=partial(pair_accuracy, threshold=recipe.threshold),
        batches=PairBatches(scaled(data.train_images), train_pairs, recipe.batch_size, rng),
        validation=PairBatches(scaled(data.test_images), test_pairs, VALIDATION_BATCH, None),
    )


def plan_batch_pairs(recipe: Recipe, network: keras.Model, data: Dataset, rng: np.random.Generator) -> TrainingPlan:
    """All pairs inside each batch of images. The test images are not looked at before the end."""
    return TrainingPlan(
        model=build_batch_model(network),
        loss=partial(all_pairs_loss, margin=recipe.margin, slack=recipe.slack, hardness=recipe.hardness),
        accuracy=partial(all_pairs_accuracy, threshold=recipe.threshold),
        batches=ImageBatches(data.train_images, data.train_labels, recipe, rng),
    )


PLANS = {"drawn": plan_drawn_pairs, "batch": plan_batch_pairs}


def _fit(
    recipe: Recipe,
    network: keras.Model,
    plan: TrainingPlan,
    callbacks: list[Any],
    verbose: int | str,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The history, and of a training that was stopped the epoch whose weights were kept."""
    model, best = plan.model, Best(network)
    rate = recipe.learning_rate
    if recipe.cosine:
        rate = keras.optimizers.schedules.CosineDecay(rate, recipe.epochs * len(plan.batches))
    model.compile(
        loss=plan.loss,
        optimizer=keras.optimizers.Adam(rate),
        metrics=[keras.metrics.MeanMetricWrapper(plan.accuracy, name="binary_accuracy")],
        # PyTorch takes one batch at a time.
        steps_per_execution=1 if keras.backend.backend() == "torch" else STEPS_PER_EXECUTION,
    )
    history = model.fit(
        plan.batches,
        validation_data=plan.validation,
        epochs=recipe.epochs,
        callbacks=[best, *callbacks],
        shuffle=False,  # the batches shuffle themselves, by the seed
        verbose=verbose,
    ).history
    kept = {}
    if model.stop_training:
        best.restore()
        kept = {"kept_epoch": best.epoch}
    return {name: [float(value) for value in values] for name, values in history.items()}, kept


def measure(
    gallery: Float32, queries: Float32, data: Dataset, *, threshold: float
) -> tuple[Evaluation, Calibration | None]:
    """Evaluate a tower by its vectors (n, 128) of the training and (m, 128) of the test images, and calibrate them.

    threshold: of the pair accuracy that is comparable between towers. There is no calibration where a class has one
    test image.
    """
    images = gallery, data.train_labels, queries, data.test_labels
    near = neighbours(gallery, queries, VOTERS)
    return evaluate(*images, threshold=threshold, near=near), calibrate(*images, near=near)


def versions() -> dict[str, str]:
    """The versions of what a training depends on."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "keras": keras.__version__,
        "backend": backend,
        backend: sys.modules[backend].__version__,  # Keras has loaded it
    }
