"""What the calls of the client return: plain frozen records, of the contract where a worker answers with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from twinvec_client.contract.answers import (
    Action,
    Answer,
    Backfill,
    BackfillEstimate,
    Backfills,
    Collection,
    DeadBatch,
    DoubtfulDigit,
    Duplicate,
    Failure,
    JobStatus,
    Judgement,
    Lane,
    Match,
    Neighbour,
    Overview,
    Pause,
    RetrainingStage,
    Schedule,
    StoredDigit,
    Suspect,
    Tower,
    TowerChange,
    TrainingProgress,
    Worker,
)
from twinvec_client.contract.states import JobState, TowerStatus

__all__ = [
    "Action",
    "Answer",
    "Backfill",
    "BackfillEstimate",
    "Backfills",
    "Collection",
    "DeadBatch",
    "Deleted",
    "DigitsPage",
    "DoubtfulDigit",
    "Duplicate",
    "Duplicates",
    "EmbedOutcome",
    "Failure",
    "JobStatus",
    "Judgement",
    "Lane",
    "Map",
    "MapPoint",
    "Match",
    "Neighbour",
    "Overview",
    "PairToJudge",
    "Pause",
    "RetrainingStage",
    "Schedule",
    "StoredDigit",
    "Suspect",
    "Suspects",
    "Tower",
    "TowerChange",
    "TrainingOutcome",
    "TrainingProgress",
    "Worker",
]


@dataclass(frozen=True)
class EmbedOutcome:
    """How a bulk job ended. The four counts add up to the pictures that were sent.

    doubtful: those of them that are stored though they look like no digit; `EmbedJob.doubtful` lists them.
    """

    state: JobState
    succeeded: int
    unchanged: int
    failed: int
    cancelled: int
    seconds: float
    doubtful: int = 0


@dataclass(frozen=True)
class Deleted:
    """What a deletion came to: digits that are gone, their vectors under all towers, pictures that failures had kept.

    left: how many of them a search found afterwards, counted up to 1,000: they were stored again meanwhile. judgements:
    of pairs with one of them, which went as well. towers: ids of those that were trained on one of them, whose files
    are kept: they still know what they learnt. trainings: ids of the jobs under way that learn from one.
    """

    digits: int
    vectors: int
    pictures: int
    left: int
    judgements: int = 0
    towers: tuple[int, ...] = ()
    trainings: tuple[str, ...] = ()

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Deleted:
        known: dict[str, Any] = {field.name: answer[field.name] for field in fields(cls) if field.name in answer}
        return cls(**known | {name: tuple(known[name]) for name in ("towers", "trainings") if name in known})

    def __add__(self, more: Deleted) -> Deleted:
        return Deleted(
            digits=self.digits + more.digits,
            vectors=self.vectors + more.vectors,
            pictures=self.pictures + more.pictures,
            left=self.left + more.left,
            judgements=self.judgements + more.judgements,
            towers=tuple(sorted({*self.towers, *more.towers})),
            trainings=tuple(sorted({*self.trainings, *more.trainings})),
        )


@dataclass(frozen=True)
class TrainingOutcome:
    """The tower that a training made. status: `live`, or `candidate` while older digits are embedded under it; of a
    retraining, which waits for that, `live` or `rejected`.

    metrics: measured after training. history: Keras's, by metric, a value an epoch.
    """

    tower: int
    fingerprint: str
    status: TowerStatus
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class DigitsPage:
    """Some of what is stored. after: given to `digits_page`, the place where the next page begins; None where none is.
    A page may be empty and not the last."""

    digits: list[StoredDigit]
    after: int | None

    def __iter__(self) -> Iterator[StoredDigit]:
        return iter(self.digits)

    def __len__(self) -> int:
        return len(self.digits)


@dataclass(frozen=True)
class Suspects:
    """Stored labels that disagree with their neighbours, the most probably wrong first.

    tower: the fingerprint of the tower whose space it was. looked_at: digits with a label; complete: whether these were
    all of them.
    """

    tower: str
    looked_at: int
    complete: bool
    suspects: list[Suspect]

    def __iter__(self) -> Iterator[Suspect]:
        return iter(self.suspects)

    def __len__(self) -> int:
        return len(self.suspects)


@dataclass(frozen=True)
class Duplicates:
    """Pairs of stored digits no farther apart than `distance`, the nearest first.

    tower, looked_at, complete: as of `Suspects`, whether the digits have a label or not.
    """

    tower: str
    distance: float
    looked_at: int
    complete: bool
    pairs: list[Duplicate]

    def __iter__(self) -> Iterator[Duplicate]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class MapPoint:
    """A stored digit's place on a map, in units of the tower's distances."""

    key: str
    collection: str
    label: int | None
    x: float
    y: float


@dataclass(frozen=True)
class Map:
    """Stored vectors on a plane: their first two principal components.

    stored: how many digits there are, of which the points are all or a sample; about how many are stored in all, where
    counting takes more than a second. explained: the share of the points' variance along x and along y.
    """

    tower: str
    stored: int
    explained: tuple[float, float]
    points: list[MapPoint]


@dataclass(frozen=True)
class PairToJudge:
    """Two stored digits, with pixels, of which it is worth to say whether they show the same.

    distance: under the live tower. why: they lie near each other and their labels differ, or it is about the tower's
    threshold.
    """

    one: StoredDigit
    other: StoredDigit
    distance: float
    why: Literal["labels differ", "near the threshold"]
