"""The contract between applications and workers: every message, its task, its lane, its fields and their limits.

Workers import this module too, so the two sides cannot drift. Task names stand on a wire: they never change.
A message is written as a dict of msgpack types, and read back with every field checked against its type here.
`docs/contract.md` is written from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta

from twinvec_client.contract import answers
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.limits import (
    DIMENSIONS,
    GLYPH_BYTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_BATCH,
    MAX_CHUNK_ITEMS,
    MAX_COLLECTION_CHARS,
    MAX_COLLECTIONS,
    MAX_COUNTED,
    MAX_CURSOR_CHARS,
    MAX_DIGEST_BYTES,
    MAX_EXPRESS_BYTES,
    MAX_EXPRESS_ITEMS,
    MAX_FLOAT32,
    MAX_K,
    MAX_KEY_CHARS,
    MAX_LABEL,
    MAX_NAME_CHARS,
    MAX_NEIGHBOURS,
    MAX_PAGE,
    MAX_PLACE_CHARS,
    MAX_PRIORITY,
    MAX_QUERIES,
    MAX_RECIPE_CHARS,
    MAX_SAMPLING,
    MAX_SECONDS,
    MAX_SEED,
    MAX_SEQ,
    MAX_STARTER_CHARS,
    MAX_TOWER,
    is_attributes,
)
from twinvec_client.contract.reasons import Reason, SenderReason
from twinvec_client.contract.states import JobKind, JobState, PausableLane, TrainingData

GLYPH, ENCODED, REFUSED = 0, 1, 2  # the types of an item in a chunk

MAX_REASON = 300  # characters of why a message has not the form of its class

_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_NO_NUL = r"^[^\x00]*$"

JobId = Annotated[str, Meta(pattern=_UUID, max_length=36)]
BatchId = Annotated[int, Meta(ge=1, le=MAX_BATCH)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS)]
Collection = Annotated[str, Meta(min_length=1, max_length=MAX_COLLECTION_CHARS, pattern=_NO_NUL)]
Keys = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, pattern=_NO_NUL)]],
    Meta(min_length=1, max_length=MAX_PAGE),
]
Digest = Annotated[bytes, Meta(min_length=1, max_length=MAX_DIGEST_BYTES)]
Glyph = Annotated[bytes, Meta(min_length=GLYPH_BYTES, max_length=GLYPH_BYTES)]
Label = Annotated[int, Meta(ge=0, lt=MAX_LABEL)]
Attributes = Annotated[str, Meta(max_length=MAX_ATTRIBUTES_BYTES)]  # a JSON object as text
Float32 = Annotated[float, Meta(ge=-MAX_FLOAT32, le=MAX_FLOAT32)]  # neither NaN nor infinity
Vector = Annotated[list[Float32], Meta(min_length=DIMENSIONS, max_length=DIMENSIONS)]
Collections = Annotated[list[Collection], Meta(min_length=1, max_length=MAX_COLLECTIONS)]
Filter = Annotated[str, Meta(min_length=1, max_length=MAX_COLLECTION_CHARS)] | Collections  # a text beside a list has
# no pattern: msgspec 0.22 frees the pattern of such a type for a type of its own, and the process ends by a signal
Distance = Annotated[float, Meta(ge=0)]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]
Cursor = Annotated[str, Meta(max_length=MAX_CURSOR_CHARS)]
TowerId = Annotated[int, Meta(ge=1, le=MAX_TOWER)]
Asker = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NO_NUL)]
Recipe = Annotated[str, Meta(min_length=1, max_length=MAX_RECIPE_CHARS)]
Seed = Annotated[int, Meta(ge=0, le=MAX_SEED)]
Starter = Annotated[str, Meta(min_length=1, max_length=MAX_STARTER_CHARS, pattern=_NO_NUL)]
PageSize = Annotated[int, Meta(ge=0)]
FailurePlace = Annotated[str, Meta(max_length=MAX_PLACE_CHARS)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
DigitId = Annotated[int, Meta(ge=0, le=MAX_BATCH)]
WalkSize = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Counted = Annotated[int, Meta(ge=0, le=MAX_COUNTED)]
CallbackName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=rf"^(?!{KEY_PREFIX})[^\x00]*$")]


class BadMessage(ValueError):
    """A message on the wire does not have the form of its class. The sender is of another version."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message is its fields.

    answer: the type of what is answered; None where nothing is. refusals: what it may be refused with, by the class
    names of the client's errors, besides `InvalidRequest` and `DatabaseUnavailable`. awaited: whether it is for its
    sender alone, so that nobody misses it where that one has gone before it is answered.
    """

    task: ClassVar[str]
    lane: ClassVar[str]
    answer: ClassVar[type | None] = None
    repeatable: ClassVar[bool] = True  # whether the same message again does no more than one
    awaited: ClassVar[bool] = False
    refusals: ClassVar[tuple[str, ...]] = ()

    def write(self) -> dict[str, Any]:
        """As a dict of what msgpack can carry."""
        fields: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,), enc_hook=_plain)
        return fields

    @classmethod
    def read(cls, payload: dict[str, Any]) -> Self:
        """Raises BadMessage where a field is missing, unknown, or out of its type or limits."""
        try:
            message = msgspec.convert(payload, cls, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise BadMessage(f"{cls.task}: {sentence(str(error))}") from None
        message.check()
        return message

    def pack(self) -> bytes:
        """As msgpack."""
        return msgspec.msgpack.encode(self, enc_hook=_plain)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Raises BadMessage as `read` does; nothing is unpacked that has no place in the message."""
        try:
            message = msgspec.msgpack.decode(packed, type=cls)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise BadMessage(f"{cls.task}: {sentence(str(error))}") from None
        message.check()
        return message

    def check(self) -> None:
        """Raise BadMessage where fields that are right each by itself do not agree."""


def _plain(value: Any) -> Any:
    """Python's own string or number of a subclass of `str`, or of a NumPy scalar, which has `item`."""
    if isinstance(value, str):
        return str.__str__(value)
    if callable(item := getattr(value, "item", None)):
        return item()
    raise TypeError(f"a {type(value).__name__} cannot be sent")


class Callback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Celery task of a caller's, on a queue of the same broker, that is told when a job has ended."""

    task: CallbackName
    queue: CallbackName = "celery"

    def write(self) -> dict[str, str]:
        """As the ledger keeps it."""
        return {"task": self.task, "queue": self.queue}


class Intake(Message, frozen=True, kw_only=True):
    """A chunk of one job's pictures. (job, seq) names it: a chunk sent twice is accepted once.

    It is answered only where the sender waits; acceptance is read from SQL, by `Receipts`.

    item_types: a byte an item, 0 a glyph, 1 encoded, 2 refused. glyphs: the glyphs' 784 bytes each, in order, as one
    Zstandard frame that says its length. encoded: the encoded items' files, in order. refused: the refused items'
    (reason, message), in order. labels, attributes: an entry an item; attributes are JSON objects as text. resent:
    whether it was sent before, and may have crashed the process that took it. digest: of the content, to tell a
    repetition from other pictures under the same idempotency key. total: items of the whole job, on its last chunk
    only. first: the digest of the job's first chunk: where the job was begun with another one, nothing is stored, and
    neither is a last chunk before one that was accepted. priority: of the job beside others that wait: of twice the
    priority it is embedded twice as fast.
    """

    task = "twinvec.intake"
    lane = "intake"
    repeatable = False  # sent again, it says so with `resent`
    answer: ClassVar[type | None] = answers.Accepted

    job: JobId
    seq: Annotated[int, Meta(ge=0, lt=MAX_SEQ)]
    collection: Collection
    keys: Annotated[list[Key], Meta(max_length=MAX_CHUNK_ITEMS)]
    item_types: Annotated[bytes, Meta(max_length=MAX_CHUNK_ITEMS)]
    glyphs: bytes
    encoded: list[bytes]
    refused: list[tuple[SenderReason, str]]
    labels: list[Label | None] | None
    attributes: list[Attributes | None] | None
    normalise: bool
    callback: Callback | None
    resent: bool
    digest: Digest
    total: Annotated[int, Meta(ge=0)] | None
    first: Digest
    priority: Annotated[int, Meta(ge=1, le=MAX_PRIORITY)]

    def check(self) -> None:
        count = len(self.keys)
        for name in ("item_types", "labels", "attributes"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                self._refuse(f"{len(values)} {name} for {count} keys")
        glyphs, encoded, refused = map(self.item_types.count, (GLYPH, ENCODED, REFUSED))
        if (encoded, refused) != (len(self.encoded), len(self.refused)):
            self._refuse(
                f"{len(self.encoded)} encoded and {len(self.refused)} refused items where item_types says "
                f"{encoded} and {refused}"
            )
        if glyphs + encoded + refused != count:
            self._refuse("an item_type that this version does not know")
        if self.total is not None and self.total < count:
            self._refuse(f"{count} keys, and {self.total} in the whole job")
        if "\0" in "".join(self.keys):
            self._refuse("a NUL in one of its keys")

    def _refuse(self, why: str) -> None:
        raise BadMessage(f"{self.task}: chunk {self.seq} has {why}")


class Express(Intake, frozen=True, kw_only=True):
    """All pictures of a small job, of at most 16 and 256 KiB: they wait for no bulk job.

    Its sender waits for the answer, which comes once the pictures are stored, and as a rule embedded. Where none
    comes, they are sent again as `Intake`.
    """

    task = "twinvec.express"
    lane = "express"
    awaited = True
    answer = answers.Stored

    keys: Annotated[list[Key], Meta(max_length=MAX_EXPRESS_ITEMS)]

    @classmethod
    def of(cls, chunk: Intake) -> Express | None:
        """The same pictures; None where they are not all of a small job."""
        small = len(chunk.keys) <= MAX_EXPRESS_ITEMS and cls._bytes(chunk) <= MAX_EXPRESS_BYTES
        if not small or chunk.seq or chunk.total != len(chunk.keys) or chunk.resent:
            return None
        return cls(**msgspec.structs.asdict(chunk))

    def check(self) -> None:
        super().check()
        if self.seq or self.total != len(self.keys):
            self._refuse(f"{len(self.keys)} keys, and they are not all of its job")
        if (size := self._bytes(self)) > MAX_EXPRESS_BYTES:
            self._refuse(f"{size:,} bytes; at most {MAX_EXPRESS_BYTES:,} are taken")

    @staticmethod
    def _bytes(chunk: Intake) -> int:
        glyphs = len(chunk.glyphs) if GLYPH in chunk.item_types else 0  # packed, none take some bytes as well
        return glyphs + sum(map(len, chunk.encoded))


class TakeInbox(Message, frozen=True, kw_only=True):
    """Take in the chunks that applications have left in the database, in transactions of their own."""

    task = "twinvec.inbox"
    lane = "intake"


class EmbedBatch(Message, frozen=True, kw_only=True):
    """Batch `batch` may be ready. The row in SQL decides."""

    task = "twinvec.embed"
    lane = "embed"

    batch: BatchId


class BackfillBatch(Message, frozen=True, kw_only=True):
    """As `EmbedBatch`, of stored digits that are embedded under a new tower; it yields to new digits."""

    task = "twinvec.backfill"
    lane = "backfill"

    batch: BatchId


class TrainBatch(Message, frozen=True, kw_only=True):
    """As `EmbedBatch`, of a training."""

    task = "twinvec.train"
    lane = "train"

    batch: BatchId


class JudgeBatch(Message, frozen=True, kw_only=True):
    """As `EmbedBatch`, of judging whether the candidate may go live."""

    task = "twinvec.judge_candidate"
    lane = "backfill"

    batch: BatchId


class Watch(Message, frozen=True, kw_only=True):
    """Compute some stored vectors again, and look how far new digits are from what is stored."""

    task = "twinvec.watch"
    lane = "backfill"


class Sweep(Message, frozen=True, kw_only=True):
    """Put expired leases back, publish what is queued, promote what is ready."""

    task = "twinvec.sweep"
    lane = "control"


class BackfillDue(Message, frozen=True, kw_only=True):
    """Queue the stored digits that have no vector under the live tower and wait in no batch."""

    task = "twinvec.backfill_due"
    lane = "control"


class Prune(Message, frozen=True, kw_only=True):
    """Delete some of what has been kept for its time: ended jobs, pictures of failures, files of retired towers."""

    task = "twinvec.prune"
    lane = "control"


class RetrainOnSchedule(Message, frozen=True, kw_only=True):
    """Start a retraining unless a training is already under way."""

    task = "twinvec.retrain_on_schedule"
    lane = "control"

    recipe: Recipe
    data: TrainingData


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of a picture (`glyph` or `encoded`), a stored digit (`key`, in `collection` if given) and a vector.

    collection: as in `Nearest`. tower: of a vector, the fingerprint of the tower that made it, in whose space it is
    looked up; refused where that stands no more: it is neither live nor was so just before, nor a complete candidate.
    after: `next` of an answer to the same query: the neighbours that follow those of that answer, under its tower.
    """

    glyph: Glyph | None = None  # taken as it is
    encoded: bytes | None = None  # a file's
    key: Key | None = None
    collection: Filter | None = None
    vector: Vector | None = None
    tower: Fingerprint | None = None
    after: Cursor | None = None


class Nearest(Message, frozen=True, kw_only=True):
    """Look up the k nearest stored digits of each query, exactly, under the tower that is live, or a vector's own.

    collection, label and attributes limit what is searched, and each is nil where it does not: digits of this
    collection, or one of these, each without NUL; of this label; whose attributes contain these (a JSON object as text,
    as PostgreSQL's `@>` does). max_distance: none farther than this. match: answer with a label as well, or with "no
    match". pictures: answer with the neighbours' pixels, and with those that were made of each picture asked about. At
    most 20,000 neighbours are asked for in all.
    """

    task = "twinvec.nearest"
    lane = "query"
    awaited = True
    answer = answers.Answers
    refusals = ("NoTower", "TowerNotLive", "UnknownKey", "NotEmbedded", "PictureRefused")

    queries: Annotated[list[Query], Meta(max_length=MAX_QUERIES)]
    k: Annotated[int, Meta(ge=1, le=MAX_K)]
    collection: Filter | None
    label: Label | None
    attributes: Attributes | None
    max_distance: Distance | None
    match: bool
    pictures: bool
    normalise: bool

    def check(self) -> None:
        if len(self.queries) * self.k > MAX_NEIGHBOURS:
            asked = f"{len(self.queries):,} queries for {self.k:,} neighbours each"
            raise BadMessage(f"{self.task}: {asked}: at most {MAX_NEIGHBOURS:,} neighbours in one message")
        for at, query in enumerate(self.queries):
            given = (query.glyph, query.encoded, query.key, query.vector)
            if sum(each is not None for each in given) != 1:
                raise BadMessage(f"{self.task}: queries[{at}] is not one of a glyph, an encoded, a key and a vector")
            if (query.tower is None) != (query.vector is None):
                raise BadMessage(f"{self.task}: queries[{at}] has not both a vector and the tower that made it")
            self._check_filter(query.collection)
        self._check_filter(self.collection)
        if self.attributes is not None and not is_attributes(self.attributes):
            raise BadMessage(f"{self.task}: attributes: expected a JSON object, as text without NUL")

    def _check_filter(self, collection: Filter | None) -> None:
        if isinstance(collection, str) and "\0" in collection:
            raise BadMessage(f"{self.task}: collection: expected a text without NUL")


class Walk(Message, frozen=True, kw_only=True):
    """A message of a walk through the stored digits, some in each, in the order of their ids."""

    lane = "query"
    awaited = True
    refusals = ("NoTower", "TowerNotLive")

    collection: Collection | None
    after: DigitId
    limit: WalkSize
    count: Counted
    tower: Fingerprint | None


class FindSuspects(Walk, frozen=True, kw_only=True):
    """Look for labels that disagree with the neighbours', among some of the stored digits.

    A digit is a suspect where its neighbours, itself left out, elect another label than its own, and the nearest is
    within the tower's threshold. Looked at are the digits with a label after the digit `after` (0 at first), in the
    order of their ids, of one collection or of all; at most `limit`, and fewer where they take long. Neighbours are of
    any collection. tower: the fingerprint of the tower that answered before; refused where it stands no more. count:
    how far to count what is to be looked at in all; 0 does not.
    """

    task = "twinvec.suspects"
    answer = answers.SuspectsPage

    pictures: bool


class FindDuplicates(Walk, frozen=True, kw_only=True):
    """Look for pairs that are nearer than a distance, among some of the stored digits and those nearest to each.

    Looked at as in `FindSuspects`, with a label or without. distance: nil for the tower's own, within which one of a
    thousand images has another of the training images. A pair of two that are both looked at is found from both.
    """

    task = "twinvec.duplicates"
    answer = answers.DuplicatesPage

    distance: Distance | None
    pictures: bool


class ListVectors(Walk, frozen=True, kw_only=True):
    """Read some of the stored vectors, with or without a label, in the order of their digits' ids, as `FindSuspects`.

    every: of 1, all of them; else about one of so many, the same ones each time.
    """

    task = "twinvec.vectors"
    answer = answers.VectorsPage

    every: Annotated[int, Meta(ge=1, le=MAX_SAMPLING)]


class GetVectors(Message, frozen=True, kw_only=True):
    """Read the vectors of stored digits, by their keys, in the order of these; what is not embedded is left out.

    tower: the fingerprint of the tower that answered before; refused where that stands no more. nil for the live one.
    """

    task = "twinvec.vectors_of_keys"
    lane = "query"
    awaited = True
    answer = answers.Vectors
    refusals = ("NoTower", "TowerNotLive")

    collection: Collection
    keys: Keys
    tower: Fingerprint | None


class VectorsOfJob(Message, frozen=True, kw_only=True):
    """Read the vectors of a job's digits, those that it found `unchanged` among them, some batches after the batch
    `after` (0 at first); what is not embedded is left out. A key that the job has in several batches is read with each.

    tower: as in `GetVectors`.
    """

    task = "twinvec.vectors_of_job"
    lane = "query"
    awaited = True
    answer = answers.JobVectors
    refusals = ("UnknownJob", "NoTower", "TowerNotLive")

    job: JobId
    after: DigitId
    tower: Fingerprint | None


class ListDigits(Message, frozen=True, kw_only=True):
    """Read some of the stored digits after the digit `after` (0 at first), in the order of their ids.

    Of one collection and with one label, where these are not nil. A page may be empty and not the last.
    """

    task = "twinvec.digits"
    lane = "query"
    awaited = True
    answer = answers.DigitsPage

    collection: Collection | None
    label: Label | None
    after: DigitId
    limit: WalkSize
    pictures: bool


class GetDigits(Message, frozen=True, kw_only=True):
    """Read the stored digits with these keys, in their order; those that are not stored are left out."""

    task = "twinvec.get"
    lane = "query"
    awaited = True
    answer = answers.Digits

    collection: Collection
    keys: Keys
    pictures: bool


class ListCollections(Message, frozen=True, kw_only=True):
    """List the collections, with how many digits each has."""

    task = "twinvec.collections"
    lane = "query"
    awaited = True
    answer = answers.Collections


class Annotate(Message, frozen=True, kw_only=True):
    """Give stored digits other labels or attributes, an entry each; nil leaves all of them as they are.

    labels: an entry is nil for no label. attributes: JSON objects as text, each in place of those before; an entry is
    nil for none.
    """

    task = "twinvec.annotate"
    lane = "control"
    answer = answers.Annotated

    collection: Collection
    keys: Keys
    labels: list[Label | None] | None
    attributes: list[Attributes | None] | None

    def check(self) -> None:
        for name in ("labels", "attributes"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.keys):
                raise BadMessage(f"{self.task}: {len(given):,} {name} of {len(self.keys):,} keys")


class Delete(Message, frozen=True, kw_only=True):
    """Delete the digits with these keys, or those of a whole collection, some in each message until `left` is 0.

    With a digit go its vectors under every tower, the judgements of its pairs and what failures had kept of its
    picture, in one transaction. A job that waits for it lists it as `deleted`. What is sent again afterwards is stored
    again. The towers that were trained on one are named, and a training under way: what they learnt goes with them
    alone. by: who asks; nil where that is not said.
    """

    task = "twinvec.delete"
    lane = "control"
    answer = answers.Deleted

    collection: Collection
    keys: Keys | None
    by: Asker | None


class Judge(Message, frozen=True, kw_only=True):
    """Say of pairs of stored digits whether they show the same, an entry each; nil takes back what was said of one.

    keys: of `collection`; others: of `other_collection`. What is said stands in place of what was said before. by: who
    says so; nil where that is not said.
    """

    task = "twinvec.judge"
    lane = "control"
    answer = answers.Judged

    collection: Collection
    other_collection: Collection
    keys: Keys
    others: Keys
    same: list[bool | None]
    by: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NO_NUL)] | None

    def check(self) -> None:
        for name in ("others", "same"):
            if len(getattr(self, name)) != len(self.keys):
                raise BadMessage(f"{self.task}: {len(getattr(self, name)):,} {name} of {len(self.keys):,} keys")


class ListJudgements(Message, frozen=True, kw_only=True):
    """Read some of what was said of pairs, after the judgement `after` (0 at first), in the order in which each pair
    was first judged; of pairs with a digit in a collection where that is not nil."""

    task = "twinvec.judgements"
    lane = "query"
    awaited = True
    answer = answers.JudgementsPage

    collection: Collection | None
    after: DigitId
    limit: WalkSize


class Receipts(Message, frozen=True, kw_only=True):
    """Which chunks of a job after `after` stand in SQL, and how deep the backlog is."""

    task = "twinvec.receipts"
    lane = "control"
    awaited = True
    answer = answers.Receipts

    job: JobId
    after: Annotated[int, Meta(ge=-1, lt=MAX_SEQ)]


class StatusOf(Message, frozen=True, kw_only=True):
    """Where a job stands."""

    task = "twinvec.status"
    lane = "control"
    awaited = True
    answer = answers.JobStatus
    refusals = ("UnknownJob",)

    job: JobId


class ListJobs(Message, frozen=True, kw_only=True):
    """The newest jobs, newest first."""

    task = "twinvec.jobs"
    lane = "control"
    awaited = True
    answer = answers.Jobs

    limit: PageSize


class ShowOverview(Message, frozen=True, kw_only=True):
    """What goes on: lanes, workers, the newest jobs and those under way."""

    task = "twinvec.overview"
    lane = "control"
    awaited = True
    answer = answers.Overview

    jobs: PageSize


class FailuresOf(Message, frozen=True, kw_only=True):
    """One page of a job's failures, by key, after the key `after`; with what was sent, if `pictures`.

    A key may have failed for several reasons; all of those of the page's last key are on it, though it be longer. With
    `pictures` it is shorter than `limit` where they are large: the last page is an empty one.
    """

    task = "twinvec.failures"
    lane = "control"
    awaited = True
    answer = answers.Failures
    refusals = ("UnknownJob",)

    job: JobId
    after: Annotated[str, Meta(max_length=MAX_KEY_CHARS, pattern=_NO_NUL)]
    limit: PageSize
    pictures: bool


class FailureOf(Message, frozen=True, kw_only=True):
    """The failures of one key in a job, one for each reason, with what was sent."""

    task = "twinvec.failure"
    lane = "control"
    awaited = True
    answer = answers.Failures
    refusals = ("UnknownJob", "UnknownKey")

    job: JobId
    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, pattern=_NO_NUL)]


class DoubtfulOf(Message, frozen=True, kw_only=True):
    """One page of the doubtful digits that a job stored, by key, after the key `after`; with pixels, if `pictures`."""

    task = "twinvec.doubtful"
    lane = "control"
    awaited = True
    answer = answers.Doubtful
    refusals = ("UnknownJob",)

    job: JobId
    after: Annotated[str, Meta(max_length=MAX_KEY_CHARS, pattern=_NO_NUL)]
    limit: PageSize
    pictures: bool


class Cancel(Message, frozen=True, kw_only=True):
    """Cancel what has not begun of a job. by: who asks; nil where that is not said."""

    task = "twinvec.cancel"
    lane = "control"
    answer = answers.JobStatus
    refusals = ("UnknownJob",)

    job: JobId
    by: Asker | None


class UnfinishedJobs(Message, frozen=True, kw_only=True):
    """The newest jobs that have not ended, newest first: of a collection, of a kind, in a state, opened within so many
    seconds, where these are not nil."""

    task = "twinvec.unfinished_jobs"
    lane = "control"
    awaited = True
    answer = answers.Jobs

    collection: Collection | None
    kind: JobKind | None
    state: JobState | None
    since: Seconds | None
    limit: PageSize


class FailuresToRetry(Message, frozen=True, kw_only=True):
    """Some of a collection's failures whose picture was kept, oldest first, after the place `after` (nil at first); of
    nil, in which collections there are some.

    With a reason, and of the last so many seconds, where these are not nil. Not those whose key holds another picture
    now, or one that came since. by: who asks; it stands on record with the first page.
    """

    task = "twinvec.failures_to_retry"
    lane = "control"
    answer = answers.FailuresToRetry

    collection: Collection | None
    reason: Reason | None
    since: Seconds | None
    after: FailurePlace | None
    by: Asker


class PauseWork(Message, frozen=True, kw_only=True):
    """Hold back what waits on a lane, or of a job, until it is resumed. What is worked on is finished.

    drain: of a lane, what waits there now is worked on as well, and nothing that comes later. by, why: that is told
    wherever the pause is.
    """

    task = "twinvec.pause"
    lane = "control"
    answer = answers.PauseOf
    refusals = ("UnknownJob", "NotPausable")

    paused_lane: PausableLane | None
    job: JobId | None
    drain: bool
    why: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=_NO_NUL)] | None
    by: Asker

    def check(self) -> None:
        if (self.paused_lane is None) == (self.job is None) or (self.drain and self.job is not None):
            raise BadMessage(f"{self.task}: one of a lane, which may be drained, and a job")


class ResumeWork(Message, frozen=True, kw_only=True):
    """Let a lane, or a job, go on."""

    task = "twinvec.resume"
    lane = "control"
    answer = answers.Resumed
    refusals = ("UnknownJob",)

    paused_lane: PausableLane | None
    job: JobId | None
    by: Asker

    def check(self) -> None:
        if (self.paused_lane is None) == (self.job is None):
            raise BadMessage(f"{self.task}: one of a lane and a job")


class ListActions(Message, frozen=True, kw_only=True):
    """Who asked for what, newest first."""

    task = "twinvec.actions"
    lane = "control"
    awaited = True
    answer = answers.Actions

    limit: PageSize


class ListDead(Message, frozen=True, kw_only=True):
    """The newest dead batches, newest first."""

    task = "twinvec.dead"
    lane = "control"
    awaited = True
    answer = answers.DeadBatches

    limit: PageSize


class Requeue(Message, frozen=True, kw_only=True):
    """Try a dead batch again. by: who asks."""

    task = "twinvec.requeue"
    lane = "control"
    repeatable = False  # the second would find no dead batch
    answer = answers.JobOf
    refusals = ("UnknownBatch", "NotRescuable")

    batch: BatchId
    by: Asker


class StartTraining(Message, frozen=True, kw_only=True):
    """Open a training, unless one is under way. It ends when its tower is stored.

    started_by: who or what asks, as the tower's lineage says it.
    """

    task = "twinvec.start_training"
    lane = "control"
    answer = answers.JobOf
    refusals = ("TrainingRunning",)

    job: JobId  # drawn by the sender: a request sent twice starts one training
    recipe: Recipe
    seed: Seed
    callback: Callback | None
    started_by: Starter | None


class Retrain(Message, frozen=True, kw_only=True):
    """Open a training, unless one is under way, that goes on until its tower is live or rejected.

    started_by: as of `StartTraining`.
    """

    task = "twinvec.retrain"
    lane = "control"
    answer = answers.JobOf
    refusals = ("TrainingRunning",)

    job: JobId  # drawn by the sender: a request sent twice starts one training
    recipe: Recipe
    seed: Seed
    data: TrainingData
    callback: Callback | None
    started_by: Starter | None


class ShowSchedule(Message, frozen=True, kw_only=True):
    """When trainings start by themselves, by the settings of the worker that answers."""

    task = "twinvec.schedule"
    lane = "control"
    awaited = True
    answer = answers.ScheduleOf


class StopTraining(Message, frozen=True, kw_only=True):
    """End a running training early; the tower is what it has learnt best so far."""

    task = "twinvec.stop_training"
    lane = "control"
    answer = answers.JobStatus
    refusals = ("UnknownJob",)

    job: JobId


class ListTowers(Message, frozen=True, kw_only=True):
    """Every tower, newest first."""

    task = "twinvec.towers"
    lane = "control"
    awaited = True
    answer = answers.Towers


class ShowBackfill(Message, frozen=True, kw_only=True):
    """How far the backfills are that go on, and what one of all digits under a new tower would take."""

    task = "twinvec.show_backfill"
    lane = "control"
    awaited = True
    answer = answers.Backfills


class Promote(Message, frozen=True, kw_only=True):
    """Let a tower go live: the candidate where it passed its judging, or the previous one, as `RollBack` does.

    A retired tower becomes a candidate again, is backfilled and judged. force: whatever the verdict says, which a
    rejected tower needs; who forced it stands in the verdict then. None goes live that lacks a vector. by: who asks.
    """

    task = "twinvec.promote"
    lane = "control"
    answer = answers.TowerChange
    refusals = ("UnknownTower", "NotPromotable")

    tower: TowerId
    force: bool
    by: Asker


class RollBack(Message, frozen=True, kw_only=True):
    """Let the tower that was live before go live again, with its vectors and its threshold.

    Digits that lack a vector under it are embedded first, and it goes live when none is missing; with at_once it goes
    live now, and these are found when they are embedded. leaving: the tower that is live, as the sender knows, so that
    the same message again does not turn back. by: who asks.
    """

    task = "twinvec.roll_back"
    lane = "control"
    answer = answers.TowerChange
    refusals = ("NotPromotable",)

    leaving: TowerId
    at_once: bool
    by: Asker


class Retire(Message, frozen=True, kw_only=True):
    """Retire the previous tower, or reject the candidate; its vectors are dropped. The live one is refused."""

    task = "twinvec.retire"
    lane = "control"
    answer = answers.TowerChange
    refusals = ("UnknownTower", "NotRetirable")

    tower: TowerId
    by: Asker


class JudgeAgain(Message, frozen=True, kw_only=True):
    """Have the candidate judged, whether it was before or not."""

    task = "twinvec.judge_again"
    lane = "control"
    answer = answers.TowerChange
    refusals = ("UnknownTower", "NotPromotable")

    tower: TowerId


class Probe(Message, frozen=True, kw_only=True):
    """Show that a lane works: its worker reads from the database, and embeds a glyph where that is its work.

    It may be sent on every lane.
    """

    task = "twinvec.probe"
    lane = "control"
    repeatable = False  # a second would wait behind the same work
    answer = answers.Probed


MESSAGES: tuple[type[Message], ...] = (
    Intake,
    Express,
    TakeInbox,
    EmbedBatch,
    BackfillBatch,
    TrainBatch,
    JudgeBatch,
    Watch,
    Sweep,
    BackfillDue,
    Prune,
    RetrainOnSchedule,
    Nearest,
    FindSuspects,
    FindDuplicates,
    ListVectors,
    GetVectors,
    VectorsOfJob,
    ListDigits,
    GetDigits,
    ListCollections,
    Annotate,
    Delete,
    Judge,
    ListJudgements,
    Receipts,
    StatusOf,
    ListJobs,
    ShowOverview,
    FailuresOf,
    FailureOf,
    DoubtfulOf,
    Cancel,
    UnfinishedJobs,
    FailuresToRetry,
    PauseWork,
    ResumeWork,
    ListActions,
    ListDead,
    Requeue,
    StartTraining,
    Retrain,
    ShowSchedule,
    StopTraining,
    ListTowers,
    ShowBackfill,
    Promote,
    RollBack,
    Retire,
    JudgeAgain,
    Probe,
)


def sentence(error: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.seq`", with the field first."""
    reason, _, place = error.partition(" - at `$.")
    said = reason[:1].lower() + reason[1:MAX_REASON]  # it may name a field as its sender did
    return f"{place[:MAX_REASON].rstrip('`')}: {said}" if place else said
