"""Enqueue pictures for embedding and look up the nearest stored digits: a broker URL is all it needs."""

# ruff: noqa: F405  # the names of `__all__` are those of `public`, which is not imported before one is asked for
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinvec_client.public import *  # noqa: F403  # whose `__all__` is the same

__all__ = [
    "Action",
    "Answer",
    "AsyncEmbedJob",
    "AsyncTrainingJob",
    "AsyncTwinvec",
    "Backfill",
    "BackfillEstimate",
    "Backfills",
    "BrokerUnavailable",
    "Callback",
    "Collection",
    "DatabaseUnavailable",
    "DeadBatch",
    "Deleted",
    "Digit",
    "DigitsPage",
    "DoubtfulDigit",
    "Duplicate",
    "Duplicates",
    "EmbedJob",
    "EmbedOutcome",
    "Failure",
    "IdempotencyConflict",
    "InvalidRequest",
    "JobStatus",
    "Judgement",
    "Lane",
    "Map",
    "MapPoint",
    "Match",
    "Neighbour",
    "NoAnswer",
    "NoTower",
    "NotEmbedded",
    "NotPausable",
    "NotPromotable",
    "NotReady",
    "NotRescuable",
    "NotRetirable",
    "OtherInstallation",
    "Overview",
    "PairToJudge",
    "Pause",
    "Paused",
    "PictureRefused",
    "PicturesLost",
    "RetrainingStage",
    "Schedule",
    "StoredDigit",
    "Suspect",
    "Suspects",
    "Tower",
    "TowerChange",
    "TowerNotLive",
    "TrainingFailed",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingProgress",
    "TrainingRunning",
    "Twinvec",
    "TwinvecError",
    "UnknownBatch",
    "UnknownJob",
    "UnknownKey",
    "UnknownTower",
    "Vectors",
    "Worker",
    "WorkerError",
    "submit",
]


def __getattr__(name: str) -> Any:
    """One of the names above. What imports `twinvec_client.contract`, as workers do, loads no client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.public"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
