"""What the calls of the client return: plain frozen records, read from the dicts that workers answer with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self


class _Record:
    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """Fields a newer worker added are left out."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return cls(**{name: value for name, value in answer.items() if name in known})


@dataclass(frozen=True)
class Neighbour(_Record):
    """A stored digit and its Euclidean distance to the query, in the tower's own units."""

    key: str
    collection: str
    distance: float
    label: int | None
    attributes: dict[str, Any] | None

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """Attributes travel as JSON text, both ways: msgpack does not hold every number that JSON does."""
        text = answer["attributes"]
        return super().read({**answer, "attributes": None if text is None else json.loads(text)})


@dataclass(frozen=True)
class Answer(_Record):
    """The nearest stored digits of one query, nearest first.

    tower: the fingerprint of the tower whose space was searched. exact: whether every stored vector was compared
    (True), or an approximate index was trusted (False).
    """

    tower: str
    exact: bool
    neighbours: list[Neighbour]

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self.neighbours)

    def __len__(self) -> int:
        return len(self.neighbours)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return cls(
            tower=answer["tower"],
            exact=answer["exact"],
            neighbours=[Neighbour.read(neighbour) for neighbour in answer["neighbours"]],
        )


@dataclass(frozen=True)
class Failure(_Record):
    """A picture that was not embedded: its key, a stable reason code, a sentence, and how often it was tried.

    picture: what was sent, where `failures(pictures=True)` asked for it and it was kept: the bytes of a file, or
    784 pixels where `is_glyph`.
    """

    key: str
    reason: str
    message: str
    attempts: int
    label: int | None = None
    attributes: dict[str, Any] | None = None
    is_glyph: bool = False
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        text = answer["attributes"]
        return super().read({**answer, "attributes": None if text is None else json.loads(text)})


@dataclass(frozen=True)
class DeadBatch(_Record):
    """A batch that nobody tries any more: why, after how many attempts, and who held it last.

    kind: of its job. digits: how many it holds. died_at: ISO 8601.
    """

    id: int
    job: str
    kind: str
    digits: int
    attempts: int
    worker: str | None
    message: str | None
    died_at: str


@dataclass(frozen=True)
class JobStatus(_Record):
    """Where a job stands, read from SQL at one moment.

    state: `receiving` (chunks are still to come), `waiting_for_tower`, `queued`, `running`, `finished`,
    `finished_with_failures`, `failed` or `cancelled`. Counts are of pictures; they add up to `total` once the
    state is final. `total` is None until the last chunk has arrived. `progress` is a training's epoch, step and
    metrics. `seconds` runs from the first chunk to the end, or to now.
    """

    id: str
    kind: str
    collection: str | None
    state: str
    total: int | None
    accepted: int
    succeeded: int
    unchanged: int
    failed: int
    cancelled: int
    created_at: str
    seconds: float
    message: str | None
    progress: dict[str, Any] | None
    outcome: dict[str, Any] | None

    FINAL: ClassVar = frozenset({"finished", "finished_with_failures", "failed", "cancelled"})

    @property
    def final(self) -> bool:
        return self.state in self.FINAL

    @property
    def settled(self) -> int:
        """Pictures whose fate is known."""
        return self.succeeded + self.unchanged + self.failed + self.cancelled


@dataclass(frozen=True)
class EmbedOutcome:
    """How a bulk job ended. The four counts add up to the pictures that were sent."""

    state: str
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
    status: str
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class Tower(_Record):
    """A trained tower. `embedded` counts the vectors stored under it, `due` those that are still to come."""

    id: int
    fingerprint: str
    status: str
    recipe: str
    seed: int
    metrics: dict[str, Any]
    threshold: float
    created_at: str
    embedded: int
    due: int
