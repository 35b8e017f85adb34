"""Enqueue pictures for embedding and look up the nearest stored digits: a broker URL is all it needs."""

from twinvec_client.callback import Callback
from twinvec_client.client import Twinvec
from twinvec_client.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    NoAnswer,
    NotEmbedded,
    NoTower,
    NotReady,
    NotRescuable,
    PictureRefused,
    TrainingFailed,
    TrainingRunning,
    TwinvecError,
    UnknownBatch,
    UnknownJob,
    UnknownKey,
    WorkerError,
)
from twinvec_client.job import EmbedJob, TrainingJob
from twinvec_client.pictures import Digit
from twinvec_client.results import (
    Answer,
    DeadBatch,
    EmbedOutcome,
    Failure,
    JobStatus,
    Neighbour,
    Tower,
    TrainingOutcome,
)

__all__ = [
    "Answer",
    "BrokerUnavailable",
    "Callback",
    "DatabaseUnavailable",
    "DeadBatch",
    "Digit",
    "EmbedJob",
    "EmbedOutcome",
    "Failure",
    "IdempotencyConflict",
    "InvalidRequest",
    "JobStatus",
    "Neighbour",
    "NoAnswer",
    "NoTower",
    "NotEmbedded",
    "NotReady",
    "NotRescuable",
    "PictureRefused",
    "Tower",
    "TrainingFailed",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingRunning",
    "Twinvec",
    "TwinvecError",
    "UnknownBatch",
    "UnknownJob",
    "UnknownKey",
    "WorkerError",
]
