"""The contract between applications and workers: every message, its task, its lane and its wire form.

Workers import this module too, so the two sides cannot drift. Task names stand on a wire: they never change.
A message is written as a dict of msgpack types and read back with its fields checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

GLYPH, ENCODED, REFUSED = 0, 1, 2  # the kinds of an item in a chunk


class BadMessage(ValueError):
    """A message on the wire does not have the form of its class. The sender is of another version."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message is its fields; a field holds only what msgpack can carry."""

    task: ClassVar[str]
    lane: ClassVar[str]
    answered: ClassVar[bool] = True  # whether the sender waits for a result

    def write(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, payload: dict[str, Any]) -> Self:
        """Raises BadMessage where a field is missing or unknown."""
        try:
            return cls(**payload)
        except TypeError as error:
            raise BadMessage(f"{cls.task}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Intake(Message):
    """A chunk of one job's pictures. (job, seq) names it: a chunk sent twice is accepted once."""

    task = "twinvec.intake"
    lane = "intake"
    answered = False  # acceptance is read from SQL, by `Receipts`

    job: str
    seq: int
    collection: str
    keys: list[str]
    kinds: bytes  # one byte an item: GLYPH, ENCODED or REFUSED
    glyphs: bytes  # the GLYPH items, 784 bytes each, in order, packed (see `packing`)
    encoded: list[bytes]  # the ENCODED items, in order
    refused: list[tuple[str, str]]  # the REFUSED items' (reason, message), in order
    labels: list[int | None] | None
    attributes: list[str | None] | None  # JSON objects as text
    normalise: bool
    callback: tuple[str, str] | None  # the (task, queue) that is told of the job's end
    resent: bool  # whether it was sent before: whoever took it may have died of it
    digest: bytes  # of the content: tells an honest repetition from a reused idempotency key
    total: int | None  # items of the whole job; set on its last chunk only


@dataclass(frozen=True, kw_only=True)
class EmbedBatch(Message):
    """The doorbell: batch `batch` may be ready. The row in SQL decides."""

    task = "twinvec.embed"
    lane = "embed"
    answered = False

    batch: int


@dataclass(frozen=True, kw_only=True)
class BackfillBatch(EmbedBatch):
    """The doorbell of a batch that embeds stored digits under a new tower; it yields to new digits."""

    task = "twinvec.backfill"
    lane = "backfill"


@dataclass(frozen=True, kw_only=True)
class TrainBatch(EmbedBatch):
    """The doorbell of a training."""

    task = "twinvec.train"
    lane = "train"


@dataclass(frozen=True, kw_only=True)
class Sweep(Message):
    """Put expired leases back, ring for what is queued, promote what is ready."""

    task = "twinvec.sweep"
    lane = "control"
    answered = False


@dataclass(frozen=True, kw_only=True)
class BackfillDue(Message):
    """Queue the stored digits that have no vector under the live tower and wait in no batch."""

    task = "twinvec.backfill_due"
    lane = "control"
    answered = False


@dataclass(frozen=True, kw_only=True)
class RetrainOnSchedule(Message):
    """Start a training unless one is already under way."""

    task = "twinvec.retrain_on_schedule"
    lane = "control"
    answered = False

    recipe: str


@dataclass(frozen=True, kw_only=True)
class Nearest(Message):
    """Look up the k nearest stored digits of each query.

    A query is one of {"key": str, "collection": str | None}, {"vector": 128 floats}, {"glyph": 784 bytes} or
    {"encoded": bytes}. `collection` limits what is searched; None searches all.
    """

    task = "twinvec.nearest"
    lane = "query"

    queries: Sequence[dict[str, Any]]
    k: int
    collection: str | None
    normalise: bool


@dataclass(frozen=True, kw_only=True)
class Receipts(Message):
    """Which chunks of a job after `after` stand in SQL, and how deep the backlog is."""

    task = "twinvec.receipts"
    lane = "control"

    job: str
    after: int


@dataclass(frozen=True, kw_only=True)
class StatusOf(Message):
    task = "twinvec.status"
    lane = "control"

    job: str


@dataclass(frozen=True, kw_only=True)
class ListJobs(Message):
    task = "twinvec.jobs"
    lane = "control"

    limit: int


@dataclass(frozen=True, kw_only=True)
class FailuresOf(Message):
    """One page of a job's failures, by key, after the key `after`; with what was sent, if `pictures`."""

    task = "twinvec.failures"
    lane = "control"

    job: str
    after: str
    limit: int
    pictures: bool


@dataclass(frozen=True, kw_only=True)
class Cancel(Message):
    task = "twinvec.cancel"
    lane = "control"

    job: str


@dataclass(frozen=True, kw_only=True)
class ListDead(Message):
    task = "twinvec.dead"
    lane = "control"

    limit: int


@dataclass(frozen=True, kw_only=True)
class Requeue(Message):
    """Try a dead batch again."""

    task = "twinvec.requeue"
    lane = "control"

    batch: int


@dataclass(frozen=True, kw_only=True)
class StartTraining(Message):
    task = "twinvec.start_training"
    lane = "control"

    job: str  # its id, drawn by the sender: a request sent twice starts one training
    recipe: str
    seed: int
    callback: tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class StopTraining(Message):
    """End a running training early; the tower is what it has learnt best so far."""

    task = "twinvec.stop_training"
    lane = "control"

    job: str


@dataclass(frozen=True, kw_only=True)
class ListTowers(Message):
    task = "twinvec.towers"
    lane = "control"


MESSAGES: tuple[type[Message], ...] = (
    Intake,
    EmbedBatch,
    BackfillBatch,
    TrainBatch,
    Sweep,
    BackfillDue,
    RetrainOnSchedule,
    Nearest,
    Receipts,
    StatusOf,
    ListJobs,
    FailuresOf,
    Cancel,
    ListDead,
    Requeue,
    StartTraining,
    StopTraining,
    ListTowers,
)
