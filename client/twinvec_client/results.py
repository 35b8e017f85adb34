"""What the calls of the client return: plain frozen records, of the contract where a worker answers with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twinvec_client.contract.answers import Answer, DeadBatch, Failure, JobStatus, Neighbour, Tower, TrainingProgress
from twinvec_client.contract.states import JobState, TowerStatus

__all__ = [
    "Answer",
    "DeadBatch",
    "EmbedOutcome",
    "Failure",
    "JobStatus",
    "Neighbour",
    "Tower",
    "TrainingOutcome",
    "TrainingProgress",
]


@dataclass(frozen=True)
class EmbedOutcome:
    """How a bulk job ended. The four counts add up to the pictures that were sent."""

    state: JobState
    succeeded: int
    unchanged: int
    failed: int
    cancelled: int
    seconds: float


@dataclass(frozen=True)
class TrainingOutcome:
    """The tower that a training made. status: `live`, or `candidate` while older digits are embedded under it.

    metrics: measured after training. history: Keras's, by metric, a value an epoch.
    """

    tower: int
    fingerprint: str
    status: TowerStatus
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float
