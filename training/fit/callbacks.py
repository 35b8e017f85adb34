"""Keras callbacks of a training: reports while it runs, and the best weights so far for one that is stopped early."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from training.arrays import Float32
from training.backend import keras
from training.fit.progress import Progress

REPORT_EVERY = 0.5  # seconds, at most


class Reporter(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Reports how far the training is, and ends it when asked to. earlier: seconds that epochs before took."""

    def __init__(
        self, report: Callable[[Progress], None] | None, should_stop: Callable[[], bool], *, earlier: float = 0.0
    ) -> None:
        super().__init__()
        self.report, self.should_stop = report, should_stop
        self.reported = time.perf_counter()
        self.start = self.reported - earlier
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
        if self.report is not None:
            self.report(self._progress(step, logs))
        if self.should_stop():
            self.model.stop_training = True

    def _progress(self, step: int, logs: dict[str, float]) -> Progress:
        seconds = self.reported - self.start
        epochs, steps = self.params["epochs"], self.params["steps"]
        done = (self.epoch - 1) * steps + step
        return Progress(
            epoch=self.epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            metrics={name: float(value) for name, value in logs.items()},
            seconds=seconds,
            remaining=seconds / done * (epochs * steps - done),
        )


class Best(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the weights of the epoch whose loss was the lowest, for a training that is stopped before its last.

    The loss is that of the validation if there is one, else of the training. A training that runs to its end does not
    use it: its learning rate was planned to end there.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network
        self.loss = np.inf
        self.epoch = 0  # counts from 1
        self.weights: list[Float32] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        loss = float(logs.get("val_loss", logs["loss"]))
        if loss < self.loss or not self.weights:
            self.loss, self.epoch, self.weights = loss, epoch + 1, self.network.get_weights()

    def restore(self) -> None:
        """Put the kept weights back."""
        self.network.set_weights(self.weights)
