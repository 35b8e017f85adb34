"""Every state and kind that a worker answers with, once. The ledger has the same words; a test holds both equal."""

from __future__ import annotations

from typing import Final, Literal

JobKind = Literal[
    "embed",  # pictures of a caller's
    "backfill",  # stored digits that lack a vector under one tower
    "train",  # a new tower
    "judge",  # whether the candidate may go live
]

JobState = Literal[
    "receiving",  # chunks are still to come
    "waiting_for_tower",  # all is stored, and there is no tower to embed under
    "queued",  # no batch was claimed yet
    "running",  # batches are being worked on
    "finished",  # every item is accounted for, and none failed
    "finished_with_failures",  # every item is accounted for, some as failures
    "failed",  # a training or a backfill that ended with an error
    "cancelled",  # by its caller
    "abandoned",  # its caller sent no more; what was accepted is accounted for
]

FINAL: Final[frozenset[JobState]] = frozenset(
    {"finished", "finished_with_failures", "failed", "cancelled", "abandoned"}
)

StageName = Literal[
    "waiting",  # no worker has begun
    "training",  # epochs
    "backfill",  # stored digits are embedded under the tower, which is a candidate
    "judging",  # they all are, and it is not decided yet
    "candidate",  # the end where towers do not go live by themselves: it passed
    "live",  # the end: it was promoted
    "rejected",  # the end: it was not
    "previous",  # the end: it was promoted, and another one since
    "retired",  # the end: as before
]

TrainingData = Literal[
    "mnist",  # the data set that the workers' settings name: MNIST, unless they name another
    "stored",  # stored digits that have a label
    "both",  # the data set, and stored digits that have a label
]

PausableLane = Literal[  # not those whose answers somebody waits for: what is paused there could not be resumed
    "intake",  # pictures are taken in: senders wait
    "embed",  # new digits are embedded
    "backfill",  # stored digits are embedded, candidates judged, the live tower watched
    "train",  # trainings begin
]

TowerStatus = Literal[
    "candidate",  # new digits are embedded under it, and stored ones are backfilled
    "live",  # answers queries
    "previous",  # was live before; its vectors stay
    "retired",  # was live once; its vectors are dropped
    "rejected",  # never went live; its vectors are dropped
]
