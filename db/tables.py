"""The tables as SQLAlchemy sees them; the migrations hold the DDL, partitions and constraints included.

It must not hold queries.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Computed,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    TypeDecorator,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.states import BatchState, JobKind, TowerStatus

DIMENSIONS = 128


class Word(TypeDecorator[Any]):
    """Text that is one of an enumeration's words, and comes back as its member."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it as declared
        BatchState: Word(BatchState),
        JobKind: Word(JobKind),
        TowerStatus: Word(TowerStatus),
        str: Text,
        int: Integer,
        float: Double,
        bytes: LargeBinary,
        uuid.UUID: Uuid,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        dict[str, str]: JSONB(none_as_null=True),
    }


class Installation(Base):
    """One row, which no version changes: the name of this ledger among those whose workers share a broker."""

    __tablename__ = "installation"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)


class Tower(Base):
    """A trained tower, its file included."""

    __tablename__ = "towers"

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(unique=True)  # SHA-256 of the weights, hex
    status: Mapped[TowerStatus]
    file: Mapped[bytes | None] = mapped_column(deferred=True)  # the `.keras` file; None once it is pruned
    file_digest: Mapped[bytes]  # SHA-256 of `file`: checked before it is opened
    recipe: Mapped[str]
    settings: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    data_digest: Mapped[str]
    versions: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    history: Mapped[dict[str, Any]]
    threshold: Mapped[float]
    frame: Mapped[bytes | None] = mapped_column(deferred=True)  # as `db.vectors.frame` writes it; never changes
    gate: Mapped[bytes | None] = mapped_column(deferred=True)  # as `training.fit.gate` writes it; never changes
    lineage: Mapped[dict[str, Any] | None]  # what it was trained on, by which versions, who or what started that
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    live_from: Mapped[datetime | None] = mapped_column("promoted_at")  # the last time
    live_until: Mapped[datetime | None]
    maintained: Mapped[bool] = mapped_column(default=False)  # of the previous one: new digits get a vector under it
    rollback_asked_at: Mapped[datetime | None]  # of the previous one: it goes live as soon as it lacks no vector
    verdict: Mapped[dict[str, Any] | None]  # as `db.vectors.verdict` writes it; None while it is not judged
    forced_by: Mapped[str | None]  # who asked for it to go live whatever the verdict
    retired_at: Mapped[datetime | None]  # or rejected


class Digit(Base):
    """A stored picture. New pixels under an existing key are a new row with a new id: an id's pixels never change."""

    __tablename__ = "digits"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    key: Mapped[str]
    collection: Mapped[str]
    pixels: Mapped[bytes]  # 28x28 uint8, row by row
    sha256: Mapped[bytes]  # of `pixels`
    label: Mapped[int | None]
    attributes: Mapped[dict[str, Any] | None]
    job: Mapped[uuid.UUID]  # that brought these pixels
    seq: Mapped[int | None]  # of its chunk that did; None: not known
    doubtful: Mapped[bool | None]  # whether they look like no digit; None: not asked, they were taken as sent
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Inbox(Base):
    """A chunk of pictures that an application has left in a transaction of its own."""

    __tablename__ = "inbox"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job: Mapped[uuid.UUID]
    message: Mapped[bytes]  # `Intake`, as msgpack
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int]
    taken_until: Mapped[datetime | None]
    refused: Mapped[str | None]  # why it cannot be taken in; it is not tried again


class Judgement(Base):
    """Of two digits, whether they show the same, as somebody said."""

    __tablename__ = "judgements"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, ForeignKey("digits.id"))  # the lower id
    second: Mapped[int] = mapped_column(BigInteger, ForeignKey("digits.id"))
    same: Mapped[bool]
    judged_by: Mapped[str | None]  # None: not said
    judged_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Embedding(Base):
    """A vector under the tower that made it. LIST-partitioned by tower, each partition by ranges of digit ids.

    What follows the vector is for search: its place in the tower's frame, and what the digit's row says.
    """

    __tablename__ = "embeddings"

    tower: Mapped[int] = mapped_column(primary_key=True)
    digit: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    vector: Mapped[Any] = mapped_column(Vector(DIMENSIONS))
    cell: Mapped[int] = mapped_column(
        SmallInteger, default=-1
    )  # -1: not placed; what follows is then not to be trusted
    small: Mapped[Any | None] = mapped_column(Vector())
    label: Mapped[int] = mapped_column(default=-1)  # -1: none
    collection_hash: Mapped[int] = mapped_column(default=0)  # `db.vectors.filters.collection_hash`


class Canary(Base):
    """By how much stored vectors differed from what a worker computed of the same pixels."""

    __tablename__ = "canaries"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tower: Mapped[int]
    worker: Mapped[str]
    digits: Mapped[int]
    worst: Mapped[float | None]  # of any number of any vector; None where one was not finite


class Drift(Base):
    """Of some of the digits of a collection that came on a day, how many were far from all that was stored."""

    __tablename__ = "drift"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    collection: Mapped[str] = mapped_column(primary_key=True)
    tower: Mapped[int] = mapped_column(primary_key=True)
    looked_at: Mapped[int]
    far: Mapped[int]  # farther from their nearest neighbour than the tower's threshold
    last_digit: Mapped[int] = mapped_column(BigInteger)  # up to which those of the collection were looked at


class AskedQuery(Base):
    """A picture that was looked up while a candidate was filled."""

    __tablename__ = "asked_queries"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    glyph: Mapped[bytes]  # 28x28 uint8


class Job(Base):
    """One request of a caller or of upkeep. kind: embed, backfill or train. Its counts are sums over its batches."""

    __tablename__ = "jobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)  # made from the idempotency key where one was given
    kind: Mapped[JobKind]
    collection: Mapped[str | None]
    total: Mapped[int | None] = mapped_column(BigInteger)  # pictures; known with the last chunk
    chunks: Mapped[int | None]  # known with the last chunk
    receiving: Mapped[bool] = mapped_column(default=False)  # whether chunks may be still to come; false is sure
    tower: Mapped[int | None] = mapped_column(ForeignKey("towers.id"))  # that a backfill embeds under
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress: Mapped[dict[str, Any] | None]  # of a training
    outcome: Mapped[dict[str, Any] | None]  # of a training, from when its tower is stored
    message: Mapped[str | None]  # why it failed
    callback: Mapped[dict[str, str] | None]  # the caller's Celery task to call at its end: {"task", "queue"}
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cancelled_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]  # of a training or a backfill; an embed job ends with its last batch. A
    # training that is to promote its tower ends when that is live or rejected
    abandoned_at: Mapped[datetime | None]  # when it ended because no chunk came any more
    paused_by: Mapped[str | None]  # who holds its batches back
    paused_at: Mapped[datetime | None]
    paused_because: Mapped[str | None]
    called_back_at: Mapped[datetime | None]  # when the callback was called
    callback_errors: Mapped[int] = mapped_column(default=0)  # how often its call failed since the job ended
    callback_message: Mapped[str | None]  # with what it failed last
    callback_retry_at: Mapped[datetime | None]  # it is not called before
    callback_given_up_at: Mapped[datetime | None]  # from then on it is not called
    pruned_at: Mapped[datetime | None]  # from then on no job has this id; what is left of it is being deleted


class LanePause(Base):
    """The last pause of a lane; over, where `resumed_at` is set."""

    __tablename__ = "lane_pauses"

    lane: Mapped[str] = mapped_column(primary_key=True)
    paused_by: Mapped[str]
    paused_at: Mapped[datetime] = mapped_column(server_default=func.now())
    why: Mapped[str | None]
    upto: Mapped[int | None] = mapped_column(BigInteger)  # a lane that drains: batches above it are held, no others
    resumed_by: Mapped[str | None]
    resumed_at: Mapped[datetime | None]


class Action(Base):
    """Who asked for what."""

    __tablename__ = "actions"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    by: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any] | None]
    times: Mapped[int] = mapped_column(default=1)  # that it was asked for, one right after the other


class Checkpoint(Base):
    """Of a training under way: what it learns from, fixed at its start, and what it goes on from."""

    __tablename__ = "checkpoints"

    job: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    digits: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))  # stored ones, by id
    labels: Mapped[list[int]] = mapped_column(ARRAY(Integer))  # of these, as they were
    left_out: Mapped[list[int]] = mapped_column(ARRAY(Integer))  # training images of the data set, by position
    pairs: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))  # judged ones: two digits for each
    same: Mapped[list[bool]] = mapped_column(ARRAY(Boolean))  # of each pair
    epoch: Mapped[int] = mapped_column(default=0)  # how many are over
    state: Mapped[bytes | None] = mapped_column(deferred=True)  # as `training.fit.checkpoints` writes it, then


class Learnt(Base):
    """A stored digit, or one that was, and a tower that was trained on it."""

    __tablename__ = "learnt"

    digit: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tower: Mapped[int] = mapped_column(ForeignKey("towers.id"), primary_key=True)


class Batch(Base):
    """The unit of work."""

    __tablename__ = "batches"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    seq: Mapped[int | None]  # of the chunk it was made from; None for the parts of a split one
    parent: Mapped[int | None] = mapped_column(ForeignKey("batches.id"))
    state: Mapped[BatchState]
    digits: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))  # ids that are to be embedded
    size: Mapped[int] = mapped_column(Computed("cardinality(digits)", persisted=True))  # how many these are
    digest: Mapped[bytes | None]  # of the chunk, as its sender computed it
    items: Mapped[int] = mapped_column(default=0)  # pictures of the chunk
    embedded: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    unchanged_digits: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))  # stored before, same pixels
    failed: Mapped[int] = mapped_column(default=0)
    dropped: Mapped[int] = mapped_column(default=0)  # not embedded: cancelled, or replaced meanwhile
    attempt: Mapped[int] = mapped_column(default=0)
    token: Mapped[uuid.UUID | None]  # the fencing token: a holder whose lease expired cannot write
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    message: Mapped[str | None]  # why it is dead; while it is open, what its last try ended with
    published_at: Mapped[datetime | None]  # when a message for it was last sent
    errors: Mapped[int] = mapped_column(default=0)  # how often the work on it ended with an exception
    retry_at: Mapped[datetime | None]  # it is not tried before
    seconds: Mapped[dict[str, Any] | None]  # by stage
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class Failure(Base):
    """A picture that was not embedded, why, and the bytes that were sent, to look at and to retry."""

    __tablename__ = "failures"

    job: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    message: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=1)
    picture: Mapped[bytes | None] = mapped_column(deferred=True)
    is_glyph: Mapped[bool]  # whether `picture` is 28x28 uint8, not a file
    label: Mapped[int | None]
    attributes: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
