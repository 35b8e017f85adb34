"""How far a training is, as a record. It loads no Keras: tasks and tests import it; `callbacks` makes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a training is. epoch and step count from 1; seconds so far, and remaining at the current pace."""

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float
    remaining: float
