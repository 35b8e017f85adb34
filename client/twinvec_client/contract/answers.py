"""What workers answer with: the dict of each answer, and the frozen records that a client reads from it.

A record reads its fields and leaves out those that a newer worker has added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self, TypedDict

from twinvec_client.contract.reasons import Reason
from twinvec_client.contract.states import FINAL, JobKind, JobState, StageName, TowerStatus, TrainingData

_JSON = {"wire": "string: a JSON object"}  # of a field that travels as text: msgpack lacks some of JSON's numbers


class _Record:
    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return cls(**{name: value for name, value in answer.items() if name in known})


@dataclass(frozen=True)
class Neighbour(_Record):
    """A stored digit and its Euclidean distance to the query, in the tower's own units.

    picture: its 784 pixels, where they were asked for.
    """

    key: str
    collection: str
    distance: float
    label: int | None
    attributes: dict[str, Any] | None = field(metadata=_JSON)
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "attributes": _object(answer["attributes"])})


@dataclass(frozen=True)
class Match(_Record):
    """What a query most likely shows, or that nothing stored is near enough.

    matched: whether the nearest is within the tower's threshold, and the picture is not doubtful. label: that the
    labelled ones among the nearest 10 elect, each vote weighted by its distance; probability: that it is right, which
    is None where the tower was trained before votes were calibrated. Both are None where nothing matched, or none of
    them has a label. voters: how many had one.
    """

    matched: bool
    label: int | None
    probability: float | None
    voters: int


@dataclass(frozen=True)
class Answer(_Record):
    """The nearest stored digits of one query, nearest first; of those at the same distance, the one stored first.

    tower: the fingerprint of the tower whose space was searched. exact: True: the neighbours are those of comparing
    every vector. compared: how many vectors it took; the others are farther by proof. seconds: that the worker took for
    the whole request. next: given as `after` with the same query, the neighbours that follow; None where none do.
    threshold: the distance that splits the tower's pairs best into same and different. usual: that within which 99 % of
    the test images had a training image; None where the tower was trained before that was measured. doubtful: whether
    the picture that was asked about looks like nothing that the tower was trained on, or was read wrongly; None where
    it was not normalised, a key or a vector was asked about, or the tower was trained before that was measured. match:
    where it was asked for. glyph: the 784 pixels that were made of the picture that was asked about, which the tower
    saw, where pictures were asked for.
    """

    tower: str
    exact: bool
    compared: int
    seconds: float
    neighbours: list[Neighbour]
    next: str | None
    threshold: float | None = None
    usual: float | None = None
    doubtful: bool | None = None
    match: Match | None = None
    glyph: bytes | None = field(default=None, repr=False)

    @property
    def unusual(self) -> bool:
        """Whether the nearest is farther than 99 % of test images had theirs: an odd digit, or few are stored."""
        return not self.neighbours or (self.usual is not None and self.neighbours[0].distance > self.usual)

    @property
    def far(self) -> bool:
        """Whether the nearest is farther than the tower's threshold, or nothing was found."""
        return not self.neighbours or (self.threshold is not None and self.neighbours[0].distance > self.threshold)

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self.neighbours)

    def __len__(self) -> int:
        return len(self.neighbours)

    def __getitem__(self, at: int) -> Neighbour:
        return self.neighbours[at]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        neighbours, match = _neighbours(answer["neighbours"]), answer.get("match")
        return super().read({**answer, "neighbours": neighbours, "match": match and Match.read(match)})


@dataclass(frozen=True)
class Suspect(_Record):
    """A stored digit whose label disagrees with its neighbours': the label that they elect, and its probability.

    probability: None where the tower was trained before votes were calibrated. own_probability: of the digit's own
    label. neighbours: the nearest five, itself left out. picture: its 784 pixels, where they were asked for.
    """

    key: str
    collection: str
    label: int
    elected: int
    probability: float | None
    own_probability: float | None
    neighbours: list[Neighbour]
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "neighbours": _neighbours(answer["neighbours"])})


@dataclass(frozen=True)
class Duplicate(_Record):
    """A stored digit and another that is nearer to it than a distance. same_pixels: whether they are pixel for pixel
    the same. picture: the first one's 784 pixels, where they were asked for."""

    key: str
    collection: str
    label: int | None
    other: Neighbour
    same_pixels: bool
    picture: bytes | None = field(default=None, repr=False)

    @property
    def distance(self) -> float:
        return self.other.distance

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "other": Neighbour.read(answer["other"])})


@dataclass(frozen=True)
class Failure(_Record):
    """A picture that was not embedded: its key, a stable reason code, a sentence, and how often it was tried.

    picture: what was sent, where `failures(pictures=True)` asked for it and it was kept: the bytes of a file, or
    784 pixels where `is_glyph`.
    """

    key: str
    reason: Reason
    message: str
    attempts: int
    label: int | None = None
    attributes: dict[str, Any] | None = field(default=None, metadata=_JSON)
    is_glyph: bool = False
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "attributes": _object(answer["attributes"])})


@dataclass(frozen=True)
class DoubtfulDigit(_Record):
    """A digit that was stored though it looks like nothing that its tower was trained on, or was read wrongly.

    picture: its 784 pixels, where they were asked for.
    """

    key: str
    collection: str
    label: int | None
    attributes: dict[str, Any] | None = field(metadata=_JSON)
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "attributes": _object(answer["attributes"])})


@dataclass(frozen=True)
class StoredDigit(_Record):
    """A digit as it is stored. doubtful: whether it looks like none; None where that was not asked: its pixels were
    taken as they were sent. picture: its 784 pixels, where they were asked for."""

    key: str
    collection: str
    label: int | None
    attributes: dict[str, Any] | None = field(metadata=_JSON)
    doubtful: bool | None = None
    picture: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "attributes": _object(answer["attributes"])})


@dataclass(frozen=True)
class Collection(_Record):
    """A collection, how many digits are stored in it, and how many of them have a label."""

    name: str
    digits: int
    labelled: int


@dataclass(frozen=True)
class Judgement(_Record):
    """Whether two stored digits show the same, as somebody said: who, where that was said, and when (ISO 8601)."""

    key: str
    collection: str
    other_key: str
    other_collection: str
    same: bool
    by: str | None
    at: str


@dataclass(frozen=True)
class DeadBatch(_Record):
    """A batch that is not tried any more: why, after how many attempts, and which worker held it last.

    kind: of its job. digits: how many it holds. died_at: ISO 8601.
    """

    id: int
    job: str
    kind: JobKind
    digits: int
    attempts: int
    worker: str | None
    message: str | None
    died_at: str


@dataclass(frozen=True)
class TrainingProgress(_Record):
    """How far a training is.

    epoch and step count from 1. metrics: of the epoch so far, by Keras's names. seconds: since its start; remaining:
    as it goes now, without the evaluation. attempt: above 1, a worker was lost, and another one went on from the last
    epoch that was kept, or started over.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float
    remaining: float
    attempt: int = 1


@dataclass(frozen=True)
class RetrainingStage(_Record):
    """Where a retraining stands between its start and its end, when its tower is live or rejected.

    tower: that was trained. done, total: stored digits of the backfill. remaining: seconds of it, as it goes now.
    """

    name: StageName
    tower: int | None = None
    done: int | None = None
    total: int | None = None
    remaining: float | None = None


@dataclass(frozen=True)
class Pause(_Record):
    """Work that is held back until it is resumed: by whom, since when (ISO 8601), and why, where that was said.

    lane: that is paused; None where it is a job's own pause. draining: what waited there when it began is still worked
    on; left: how many batches, or messages of `intake`, that is, where it was counted.
    """

    by: str
    at: str
    why: str | None = None
    lane: str | None = None
    draining: bool = False
    left: int | None = None

    def __str__(self) -> str:
        what = "it" if self.lane is None else f"the lane {self.lane}"
        held = "takes nothing new" if self.draining else "is paused"
        why = "" if self.why is None else f": {self.why}"
        at = datetime.fromisoformat(self.at).astimezone(UTC)
        return f"{what} {held}, by {self.by} since {at:%Y-%m-%d %H:%M} UTC{why}"


@dataclass(frozen=True)
class JobStatus(_Record):
    """Where a job stands, read from SQL at one moment.

    Counts are of pictures; they add up to `total` once the state is final, and to `accepted` where it is `abandoned`.
    `total` is None until the last chunk has arrived. `progress` and `outcome` are a training's, and `stage` that of a
    retraining. `created_at` is ISO 8601; `seconds` runs from the first chunk to the end, or to now. `message` says why
    it failed, why a retraining's tower was rejected, or why its callback could not be called. `doubtful` counts those
    of the digits it stored that look like none: `EmbedJob.doubtful` lists them. `paused` says what holds back what has
    not begun of it: a pause of its own, or of the lane of its batches.
    """

    id: str
    kind: JobKind
    collection: str | None
    state: JobState
    total: int | None
    accepted: int
    succeeded: int
    unchanged: int
    failed: int
    cancelled: int
    created_at: str
    seconds: float
    message: str | None
    progress: TrainingProgress | None
    outcome: dict[str, Any] | None
    doubtful: int = 0
    stage: RetrainingStage | None = None
    paused: Pause | None = None

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        progress, stage = answer["progress"], answer.get("stage")
        progress, stage = progress and TrainingProgress.read(progress), stage and RetrainingStage.read(stage)
        return super().read({**answer, "progress": progress, "stage": stage, "paused": _pause(answer)})

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def settled(self) -> int:
        """Pictures that are accounted for."""
        return self.succeeded + self.unchanged + self.failed + self.cancelled


@dataclass(frozen=True)
class Tower(_Record):
    """A trained tower. `embedded` counts the vectors stored under it, `due` those that are still to come.

    lineage: what it was trained on (`data`, `source`, a `digest`, counts of `mnist_digits`, `stored_labels` and
    `judged_pairs`), by which `libraries`, and who or what it was `started_by`, as far as that is known.
    verdict: what came of judging it against the live one: `passed`, and `reasons`, each with its `name`, the figures of
    `live` and `candidate`, the `tolerance`, whether it `passed`, and what is `said`; None where it was not judged.
    live_from, live_until: when it was live the last time. Times are ISO 8601.
    """

    id: int
    fingerprint: str
    status: TowerStatus
    recipe: str
    seed: int
    metrics: dict[str, Any]
    threshold: float
    created_at: str
    embedded: int
    due: int
    verdict: dict[str, Any] | None = None
    live_from: str | None = None
    live_until: str | None = None
    lineage: dict[str, Any] | None = None

    def __repr__(self) -> str:
        """In a line: what was measured is left out, and so is most of the fingerprint."""
        named = f"id={self.id}, fingerprint='{self.fingerprint[:12]}...', status={self.status!r}"
        return f"Tower({named}, recipe={self.recipe!r}, embedded={self.embedded}, due={self.due})"


@dataclass(frozen=True)
class Backfill(_Record):
    """Stored digits that are embedded under a tower, by its id. done: of `total` digits, those that are settled.

    rate: digits a second in the last minute; remaining: seconds at that rate. Both are None before the first is done.
    """

    job: str
    tower: int
    total: int
    done: int
    rate: float | None
    remaining: float | None


@dataclass(frozen=True)
class BackfillEstimate(_Record):
    """What it would take to embed all digits under a new tower, as the live one and the last batches show.

    seconds: None where no batches were measured lately; measured_on: the kind of the job whose batches were. bytes: on
    the database's disk.
    """

    digits: int
    seconds: float | None
    measured_on: JobKind | None
    bytes: int


@dataclass(frozen=True)
class Backfills(_Record):
    """The backfills that go on, the oldest first, and what one under a new tower would take."""

    running: list[Backfill]
    estimate: BackfillEstimate

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        running = [Backfill.read(each) for each in answer["running"]]
        return super().read({"running": running, "estimate": BackfillEstimate.read(answer["estimate"])})


@dataclass(frozen=True)
class TowerChange(_Record):
    """What became of a request about a tower. status: of it now. missing: digits that lack a vector under it.

    said: why it is not what was asked for yet, and what happens instead; None where it is.
    """

    tower: int
    fingerprint: str
    status: TowerStatus
    missing: int
    said: str | None


@dataclass(frozen=True)
class Schedule(_Record):
    """When towers are retrained by themselves, by the settings of the worker that answers.

    cron: five fields in UTC; None: never. next_at: ISO 8601. last_tower: the newest that the schedule has trained.
    running: the job of the training that is under way, however it was started.
    """

    cron: str | None
    recipe: str
    data: TrainingData
    next_at: str | None
    last_tower: int | None
    running: str | None


@dataclass(frozen=True)
class Lane(_Record):
    """A kind of work, and what of it waits.

    waiting: messages in the broker. queued, running: batches in the ledger that wait and that are worked on; of
    `intake`, what applications have left in the database waits; None of a lane whose work is messages alone. rate:
    digits a second over the last minute, of `embed` and `backfill`. oldest_wait: seconds that the oldest waits which
    waits for nothing but a worker; None where none does. listening: whether a worker reads the lane.
    """

    name: str
    waiting: int
    queued: int | None
    running: int | None
    rate: float | None
    oldest_wait: float | None
    listening: bool
    paused: Pause | None = None

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "paused": _pause(answer)})


@dataclass(frozen=True)
class Worker(_Record):
    """A process that takes messages, and those of its pool.

    since: its start, ISO 8601. seen: seconds since it said that it runs, which it does every 2 s. doing: the task, and
    the batch and job; None while it waits. memory: bytes, resident, of all its processes.
    """

    name: str
    host: str
    process: int
    lanes: list[str]
    since: str
    seen: float
    doing: str | None
    memory: int


@dataclass(frozen=True)
class Overview(_Record):
    """What goes on in an installation at one moment.

    at: by the database's clock, ISO 8601. live_tower: the fingerprint of the live tower; None where none is. backlog:
    digits that were accepted and are not embedded yet. rate: of those, embedded a second over the last minute. jobs:
    the newest, and all that are under way (50 at most), newest first.
    """

    at: str
    live_tower: str | None
    backlog: int
    rate: float
    lanes: list[Lane]
    workers: list[Worker]
    jobs: list[JobStatus]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        parts = {"lanes": Lane, "workers": Worker, "jobs": JobStatus}
        read = {name: [part.read(each) for each in answer[name]] for name, part in parts.items()}  # type: ignore[attr-defined]
        return super().read({**answer, **read})


@dataclass(frozen=True)
class Action(_Record):
    """What somebody asked for. at: of the last time, ISO 8601. target: as `lane embed`, `job ID` or `tower 3`.

    details: what else is known, as counts. times: how often, one right after the other.
    """

    at: str
    by: str
    action: str
    target: str
    details: dict[str, Any] | None = None
    times: int = 1


@dataclass(frozen=True)
class FailureToRetry(_Record):
    """A failure whose picture was kept and may be sent again, and the job and the collection that it is of."""

    job: str
    collection: str
    key: str
    reason: Reason
    is_glyph: bool
    label: int | None
    attributes: dict[str, Any] | None = field(metadata=_JSON)
    picture: bytes = field(repr=False)

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        return super().read({**answer, "attributes": _object(answer["attributes"])})


class Accepted(TypedDict):
    """The digest that a chunk stands in SQL with: its own, or that of the chunk that came before under its seq."""

    digest: bytes


class Stored(Accepted):
    """status: how the job ended; null where that is to be asked for."""

    status: JobStatus | None


class Receipts(TypedDict):
    """accepted: (seq, digest) of each chunk. first: the digest of the first chunk of those that the job was begun with,
    null where none has come. backlog: digits accepted and not yet embedded; beyond the limit clients wait. job_limit:
    pictures that a job may have. paused: of `intake`: no chunk is accepted while it lasts."""

    accepted: list[tuple[int, bytes]]
    first: bytes | None
    backlog: int
    backlog_limit: int
    job_limit: int
    paused: Pause | None


class Answers(TypedDict):
    """One of each query, in their order."""

    answers: list[Answer]


class SuspectsPage(TypedDict):
    """tower: the fingerprint of the tower that answers. looked_at: how many digits. after: where the next page begins;
    null where there is none. total: digits to look at in all, as far as they were counted, and about how many are
    stored where counting takes more than a second."""

    tower: str
    looked_at: int
    after: int | None
    total: int | None
    suspects: list[Suspect]


class DuplicatesPage(TypedDict):
    """As `SuspectsPage`. distance: that was taken."""

    tower: str
    looked_at: int
    after: int | None
    total: int | None
    distance: float
    duplicates: list[Duplicate]


class VectorsPage(TypedDict):
    """As `SuspectsPage`. keys, collections, labels: an entry a vector; vectors: their 128 float32 each, little-endian,
    one after the other."""

    tower: str
    looked_at: int
    after: int | None
    total: int | None
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    vectors: bytes


class Vectors(TypedDict):
    """tower: the fingerprint of the tower that answers. The rest is as of `VectorsPage`."""

    tower: str
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    vectors: bytes


class JobVectors(TypedDict):
    """As `Vectors`. after: where the next page begins; null where there is none."""

    tower: str
    after: int | None
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    vectors: bytes


class PauseOf(TypedDict):
    pause: Pause


class Resumed(TypedDict):
    """Whether it was paused."""

    resumed: bool


class Actions(TypedDict):
    actions: list[Action]


class FailuresToRetry(TypedDict):
    """collections: in which there are some, where none was named. after: where the next page begins; null where there
    is none."""

    collections: list[str]
    failures: list[FailureToRetry]
    after: str | None


class Jobs(TypedDict):
    jobs: list[JobStatus]


class JobOf(TypedDict):
    """The id of the job that goes on, or begins."""

    job: str


class Failures(TypedDict):
    failures: list[Failure]


class DigitsPage(TypedDict):
    """after: where the next page begins; null where there is none."""

    digits: list[StoredDigit]
    after: int | None


class Digits(TypedDict):
    digits: list[StoredDigit]


class Collections(TypedDict):
    collections: list[Collection]


class Annotated(TypedDict):
    """The keys that are stored; the others were not."""

    keys: list[str]


class Deleted(TypedDict):
    """digits: that are gone. vectors: of them, under all towers. pictures: that failures had kept. judgements: of pairs
    with one of them. left: how many of the keys or of the collection are stored afterwards, counted up to 1,000.
    towers: ids of those that were trained on one of them, and whose file is kept. trainings: jobs under way that learn
    from one."""

    digits: int
    vectors: int
    pictures: int
    judgements: int
    left: int
    towers: list[int]
    trainings: list[str]


class Judged(TypedDict):
    """The positions of the pairs that were left out: a digit of theirs is not stored, or both are the same one."""

    left_out: list[int]


class JudgementsPage(TypedDict):
    """after: where the next page begins; null where there is none."""

    judgements: list[Judgement]
    after: int | None


class Doubtful(TypedDict):
    digits: list[DoubtfulDigit]


class DeadBatches(TypedDict):
    batches: list[DeadBatch]


class Towers(TypedDict):
    towers: list[Tower]


class ScheduleOf(TypedDict):
    schedule: Schedule


class Probed(TypedDict):
    """worker: the process that answered. database: seconds of a statement there; tower: of one glyph through the live
    tower, null where this process runs none."""

    worker: str
    database: float
    tower: float | None


class Refusal(TypedDict):
    """The class of the client's error, and its sentence."""

    error: str
    message: str


def _neighbours(found: list[dict[str, Any]]) -> list[Neighbour]:
    return [Neighbour.read(neighbour) for neighbour in found]


def _pause(answer: dict[str, Any]) -> Pause | None:
    paused = answer.get("paused")
    return None if paused is None else Pause.read(paused)


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)
