"""Train a tower by a recipe, and measure it. It must not know where the tower is stored, nor which process asks."""

from __future__ import annotations

import json
import logging
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
from training.fit.checkpoints import Checkpoint, Checkpoints, restore
from training.fit.evaluation import Evaluation, evaluate, neighbours
from training.fit.gate import Gate
from training.fit.memory import keep_memory
from training.fit.pairs import draw_pairs, with_judged
from training.fit.progress import Progress
from training.fit.vote import VOTERS
from training.model.all_pairs import all_pairs_accuracy, all_pairs_loss, build_batch_model
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import Tensor, build_network, build_twins, contrastive_loss, pair_accuracy, scaled
from training.model.storage import fingerprint, save
from training.recipes import Recipe

log = logging.getLogger(__name__)

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
    on_checkpoint: Callable[[int, bytes], None] | None = None,
    checkpoint: bytes | None = None,
) -> Trained:
    """Train by a recipe, the same way for the same seed, and evaluate on the test images.

    on_progress: called at the end of every epoch, and in between at most twice a second; an error that it raises ends
    the training and is raised here. should_stop: called as often; once it is true, no further batch is trained on, and
    the tower is the best so far: that of the epoch with the lowest loss. verbose: as Keras's `fit`, 1 prints a bar an
    epoch. on_checkpoint: called after an epoch with how many are over and with what a later call goes on from, given
    as `checkpoint`; that is not used where it is of another recipe, seed, data or version. Raises DataError if nothing
    can be learnt from the data, for instance if they have only one class, and TrainingError if the weights have become
    NaN.
    """
    checked(data)
    keep_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    network = build_network(recipe, seed=seed)
    plan = PLANS[recipe.pairs](recipe, network, data, np.random.default_rng(seed))
    of = {"recipe": asdict(recipe), "seed": seed, "data": data.digest, "versions": versions()}
    resumed = Resumption(of, _usable(checkpoint, of), on_checkpoint)
    earlier = (0.0, 0.0) if resumed.kept is None else (resumed.kept.seconds, resumed.kept.cpu_seconds)
    start, cpu_start = start - earlier[0], cpu_start - earlier[1]
    history, kept = _fit(recipe, network, plan, partial(Reporter, on_progress, should_stop), resumed, verbose)
    tower = folded(network)
    if not all(np.isfinite(weights).all() for weights in tower.get_weights()):
        raise TrainingError("the training diverged: the tower's weights hold NaN; lower the recipe's learning rate")
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    embed = Embedder(tower)
    vectors, queries = embed(data.train_images), embed(data.test_images)
    evaluation, calibration = measure(vectors, queries, data, threshold=recipe.threshold)
    measured = asdict(evaluation) | {"calibration": None if calibration is None else asdict(calibration)}
    took = {"seconds": seconds, "cpu_seconds": cpu_seconds, "epochs": len(history["loss"])}
    took |= {} if resumed.kept is None else {"resumed_after_epoch": resumed.kept.epoch}
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
    """Two images a pair, drawn once, the judged pairs among them, and validated on pairs of the test images."""
    train_pairs, test_pairs = draw_pairs(data.train_labels, rng), draw_pairs(data.test_labels, rng)
    images = data.train_images
    if data.judged is not None:
        train_pairs = with_judged(train_pairs, data.judged.same, at=len(images))
        images = np.concatenate([images, data.judged.one, data.judged.other])
    return TrainingPlan(
        model=build_twins(network),
        loss=partial(contrastive_loss, margin=recipe.margin),
        accuracy=partial(pair_accuracy, threshold=recipe.threshold),
        batches=PairBatches(scaled(images), train_pairs, recipe.batch_size, rng),
        validation=PairBatches(scaled(data.test_images), test_pairs, VALIDATION_BATCH, None),
    )


def plan_batch_pairs(recipe: Recipe, network: keras.Model, data: Dataset, rng: np.random.Generator) -> TrainingPlan:
    """All pairs inside each batch of images, and some judged ones. Test images are not looked at before the end."""
    judged = data.judged is not None
    return TrainingPlan(
        model=build_batch_model(network),
        loss=partial(all_pairs_loss, margin=recipe.margin, slack=recipe.slack, hardness=recipe.hardness, judged=judged),
        accuracy=partial(all_pairs_accuracy, threshold=recipe.threshold, judged=judged),
        batches=ImageBatches(data.train_images, data.train_labels, recipe, rng, data.judged),
    )


PLANS = {"drawn": plan_drawn_pairs, "batch": plan_batch_pairs}


class Resumption(NamedTuple):
    """What is trained on what, as a checkpoint says it; the checkpoint to go on from; and who keeps the next ones."""

    of: dict[str, Any]
    kept: Checkpoint | None
    keep: Callable[[int, bytes], None] | None


def _usable(checkpoint: bytes | None, of: dict[str, Any]) -> Checkpoint | None:
    """A checkpoint of the same training; None, and a line in the log, where there is none."""
    if checkpoint is None:
        return None
    try:
        kept = Checkpoint.read(checkpoint)
    except TrainingError as error:
        log.warning("began the training anew: %s", error)
        return None
    here = json.loads(json.dumps(of))
    if differing := [name for name in here if kept.of.get(name) != here[name]]:
        log.warning("began the training anew: its checkpoint is of another %s", " and ".join(differing))
        return None
    return kept


def _fit(
    recipe: Recipe,
    network: keras.Model,
    plan: TrainingPlan,
    reporter: Callable[..., Reporter],
    resumed: Resumption,
    verbose: int | str,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The history, and of a training that was stopped the epoch whose weights were kept. Raises TrainingError."""
    model, best, kept = plan.model, Best(network), resumed.kept
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
    history: dict[str, list[float]] = {}
    earlier = (0.0, 0.0)
    if kept is not None:
        restore(kept, network, model, plan.batches, best)
        history, earlier = kept.history, (kept.seconds, kept.cpu_seconds)
        log.info("went on after epoch %d of %d", kept.epoch, recipe.epochs)
    callbacks: list[Any] = [best, reporter(earlier=earlier[0])]
    if resumed.keep is not None:
        callbacks.append(
            Checkpoints(resumed.keep, resumed.of, network, plan.batches, best, earlier=earlier, history=history)
        )
    begin = 0 if kept is None else kept.epoch
    if begin < recipe.epochs:
        new = model.fit(
            plan.batches,
            validation_data=plan.validation,
            epochs=recipe.epochs,
            initial_epoch=begin,
            callbacks=callbacks,
            shuffle=False,  # the batches shuffle themselves, by the seed
            verbose=verbose,
        ).history
        history = {name: [*history.get(name, []), *(float(value) for value in values)] for name, values in new.items()}
    ended = {}
    if model.stop_training:
        best.restore()
        ended = {"kept_epoch": best.epoch}
    return history, ended


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
