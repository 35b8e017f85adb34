"""A training's epochs as Keras prints them, and what follows until its tower is live, from what its status says.

It must not know Keras, nor the ledger.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from types import TracebackType
from typing import IO, Self

from twinvec_client import JobStatus, RetrainingStage, TrainingJob, TrainingOutcome, TrainingProgress

_WIDTH = 20  # characters of the bar
_BOLD, _GREEN, _GREY, _PLAIN, _CLEAR = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m", "\r\x1b[2K"
_STAGES = {"backfill": "Backfill", "judging": "Judging"}  # what is printed of those after the last epoch
_LOOK = 0.2  # seconds; a training says where it is twice a second


def follow(job: TrainingJob, stream: IO[str] | None = None) -> TrainingOutcome:
    """Print the epochs of a training until it ends, on stdout if no stream is given. Raises TrainingFailed."""
    with Epochs(stream or sys.stdout) as epochs:
        while True:
            status = job.status()
            epochs.show(status)
            if status.final:
                return job.wait()
            time.sleep(_LOOK)


class Epochs:
    """Fed with statuses, it prints `Epoch 1/5` and one line below it; on a terminal that line moves.

    Elsewhere each epoch's line is printed once, when it is over. The stages of a retraining after its last epoch are a
    line each, in the same way.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._at: TrainingProgress | None = None  # the progress that was seen last
        self._begun = 0.0  # seconds into the training when this epoch began
        self._stored = False  # whether the tower was seen to be
        self._stage = ""  # that was named last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live and (self._at or self._stage):
            self._write("\n")

    def show(self, status: JobStatus) -> None:
        """Print what is new in a status."""
        if status.progress and not self._stored:
            self._move_to(status.progress)
        if status.outcome and not self._stored:
            self._stored = True
            self._finish(status.outcome.get("history") or {})
        if status.stage is not None and status.stage.name in _STAGES:
            self._reach(status.stage)

    def _reach(self, stage: RetrainingStage) -> None:
        text = _STAGES[stage.name]
        if stage.total is not None and (self._live or stage.name != self._stage):
            text += f": {stage.done:,} of {stage.total:,}" if self._live else f" of {stage.total:,} digits"
            if stage.remaining is not None and self._live:
                text += f", about {stage.remaining:,.0f} s left"
        if stage.name != self._stage and self._stage and self._live:
            self._write("\n")
        if self._live:
            self._write(_CLEAR + text)
        elif stage.name != self._stage:
            self._write(text + "\n")
        self._stage = stage.name

    def _move_to(self, progress: TrainingProgress) -> None:
        if self._at and progress.seconds < self._at.seconds:
            how = "starts over" if progress.epoch == 1 else f"goes on after epoch {progress.epoch - 1}"
            self._write(f"\nthe worker was lost; another one {how}\n")
            self._at, self._begun = None, 0.0
        if self._at is None or progress.epoch != self._at.epoch:
            if self._at is not None:
                self._close(self._at)
                self._begun = self._at.seconds
            self._write(f"Epoch {progress.epoch}/{progress.epochs}\n")
        self._at = progress
        if self._live:
            self._write(_CLEAR + self._line(progress))

    def _finish(self, history: dict[str, list[float]]) -> None:
        if self._at:
            last = {name: values[-1] for name, values in history.items() if values}
            self._close(replace(self._at, step=self._at.steps, metrics=last) if last else self._at)
            self._at = None

    def _close(self, progress: TrainingProgress) -> None:
        self._write((_CLEAR if self._live else "") + self._line(progress) + "\n")

    def _line(self, at: TrainingProgress) -> str:
        done = round(_WIDTH * at.step / at.steps)
        seconds = max(at.seconds - self._begun, 0.0)
        pace = f"{1000 * seconds / max(at.step, 1):.0f}ms/step"
        names = sorted(at.metrics, key=lambda name: (name.startswith("val_"), name))
        metrics = "".join(f" - {name}: {at.metrics[name]:.4f}" for name in names)
        if not self._live:
            return f"{at.step}/{at.steps} {'━' * done} {seconds:.0f}s {pace}{metrics}"
        bar = f"{_GREEN}{'━' * done}{_PLAIN}{_GREY}{'━' * (_WIDTH - done)}{_PLAIN}"
        return f"{_BOLD}{at.step}/{at.steps}{_PLAIN} {bar} {_BOLD}{seconds:.0f}s{_PLAIN} {pace}{metrics}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
