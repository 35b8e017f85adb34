"""A training after a whole epoch, as bytes: enough to go on from there as if it had never been interrupted.

Keras's BackupAndRestore keeps weights and optimizer in a folder of one machine. This keeps the order of the batches,
the generator of random numbers and the best weights as well, so that the tower comes out the same to the bit, and says
nothing of where the bytes are kept. Nothing pickled is read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

import numpy as np

from training.arrays import AnyArray, Float32
from training.backend import keras
from training.errors import TrainingError
from training.fit.batches import ImageBatches, PairBatches
from training.fit.callbacks import Best

SHARE = 0.1  # of a training's time that keeping checkpoints may take

Batches = PairBatches | ImageBatches


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What `_fit` needs to go on.

    of: what was trained, on what, by which versions; only the same goes on from it. epoch: how many are over. seconds,
    cpu_seconds: that they took. rng: of NumPy's bit generator. order: of the batches' next epoch. weights: of the
    network. slots: the optimizer's variables. best_weights: empty where they are `weights`.
    """

    of: dict[str, Any]
    epoch: int
    seconds: float
    cpu_seconds: float
    history: dict[str, list[float]]
    rng: dict[str, Any]
    epochs_done: int
    order: AnyArray
    weights: list[Float32]
    slots: list[AnyArray]
    best_epoch: int
    best_loss: float
    best_weights: list[Float32]

    _ARRAYS = ("weights", "slots", "best_weights")

    def write(self) -> bytes:
        """As an uncompressed `.npz`: some 7 MB for the dense tower."""
        arrays = {f"{name}-{at}": each for name in self._ARRAYS for at, each in enumerate(getattr(self, name))}
        plain = {name: value for name, value in vars(self).items() if name not in (*self._ARRAYS, "order")}
        file = BytesIO()
        np.savez(file, plain=np.frombuffer(json.dumps(plain).encode(), np.uint8), order=self.order, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, file: bytes) -> Self:
        """Raises TrainingError where the bytes are not such a checkpoint."""
        try:
            with np.load(BytesIO(file), allow_pickle=False) as held:
                lists: dict[str, Any] = {name: _numbered(held, name) for name in cls._ARRAYS}
                return cls(**json.loads(held["plain"].tobytes()), **lists, order=held["order"])
        except Exception as error:  # NumPy and zipfile raise anything on what is broken
            raise TrainingError(f"this checkpoint cannot be read: {error}") from error


def _numbered(held: Any, name: str) -> list[AnyArray]:
    count = sum(each.startswith(f"{name}-") for each in held.files)
    return [held[f"{name}-{at}"] for at in range(count)]


class Checkpoints(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Hands a checkpoint to `keep` after an epoch, as often as that takes no more than SHARE of the time.

    The first epoch is always kept, and the last. earlier: (seconds, seconds of CPU) that epochs before took; history:
    theirs.
    """

    def __init__(
        self,
        keep: Callable[[int, bytes], None],
        of: dict[str, Any],
        network: keras.Model,
        batches: Batches,
        best: Best,
        *,
        earlier: tuple[float, float] = (0.0, 0.0),
        history: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.keep, self.of, self.network, self.batches, self.best = keep, of, network, batches, best
        self.history: dict[str, list[float]] = {name: list(values) for name, values in (history or {}).items()}
        self.start = time.perf_counter() - earlier[0], time.process_time() - earlier[1]
        self.kept_at, self.took = -np.inf, 0.0

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        now = time.perf_counter()
        last = epoch + 1 == self.params["epochs"]
        if self.model.stop_training or (not last and now - self.kept_at < self.took / SHARE):
            return
        self.keep(epoch + 1, self._checkpoint(epoch + 1).write())
        self.kept_at = time.perf_counter()
        self.took = self.kept_at - now

    def _checkpoint(self, epoch: int) -> Checkpoint:
        best = self.best
        return Checkpoint(
            of=self.of,
            epoch=epoch,
            seconds=time.perf_counter() - self.start[0],
            cpu_seconds=time.process_time() - self.start[1],
            history=self.history,
            rng=dict(self.batches.rng.bit_generator.state) if self.batches.rng else {},
            epochs_done=self.batches.epochs_done,
            order=self.batches.order,
            weights=self.network.get_weights(),
            slots=[np.array(each) for each in self.model.optimizer.variables],
            best_epoch=best.epoch,
            best_loss=best.loss,
            best_weights=[] if best.epoch == epoch else best.weights,
        )


def restore(kept: Checkpoint, network: keras.Model, model: keras.Model, batches: Batches, best: Best) -> None:
    """Put a compiled model, its network and its batches where the checkpoint was made. Raises TrainingError."""
    try:
        network.set_weights(kept.weights)
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, kept.slots, strict=True):
            variable.assign(value)
        batches.go_on(order=kept.order, rng=kept.rng, epochs_done=kept.epochs_done)
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"this checkpoint does not fit: {error}") from error
    best.epoch, best.loss, best.weights = kept.best_epoch, kept.best_loss, kept.best_weights or kept.weights
