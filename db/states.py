"""Every state and kind in the ledger, once. What each means stands beside it; the migrations hold the same words."""

from enum import StrEnum


class JobKind(StrEnum):
    """What a job was opened for."""

    EMBED = "embed"  # a caller's pictures
    BACKFILL = "backfill"  # stored digits that lack a vector under one tower
    TRAIN = "train"  # a new tower
    JUDGE = "judge"  # whether the candidate may go live


class BatchState(StrEnum):
    """Where a batch stands."""

    QUEUED = "queued"  # its row is its place in the outbox; anyone may claim it
    LEASED = "leased"  # one holder's until `lease_until`
    DONE = "done"  # finished, its vectors in the same transaction
    SPLIT = "split"  # crashed its workers, and was cut into smaller ones
    DEAD = "dead"  # given up; `requeue` tries it again
    CANCELLED = "cancelled"  # its job was cancelled, or its tower left


class TowerStatus(StrEnum):
    """Where a tower is in its life."""

    CANDIDATE = "candidate"  # new digits are embedded under it, stored ones are backfilled
    LIVE = "live"  # answers queries
    PREVIOUS = "previous"  # was live before; its vectors stay, to roll back to
    RETIRED = "retired"  # was live once; its vectors are dropped
    REJECTED = "rejected"  # never went live; its vectors are dropped


class JobState(StrEnum):
    """Where a job stands, derived from its batches: no column holds it."""

    RECEIVING = "receiving"  # chunks are still to come
    WAITING_FOR_TOWER = "waiting_for_tower"  # all is stored, and there is no tower to embed under
    QUEUED = "queued"  # no batch was claimed yet
    RUNNING = "running"  # batches are being worked on
    FINISHED = "finished"  # every item is accounted for, none failed
    FINISHED_WITH_FAILURES = "finished_with_failures"  # every item is accounted for, some as failures
    FAILED = "failed"  # a training or a backfill that ended with an error
    CANCELLED = "cancelled"  # by its caller
    ABANDONED = "abandoned"  # its caller sent no more; what was accepted is accounted for


OPEN = (BatchState.QUEUED, BatchState.LEASED)  # there is still work in the batch
EMBEDDED_UNDER = (TowerStatus.LIVE, TowerStatus.CANDIDATE)  # new digits always get a vector under each of these
DROPPED = (TowerStatus.RETIRED, TowerStatus.REJECTED)  # vectors of these are not kept
FINAL = (
    JobState.FINISHED,
    JobState.FINISHED_WITH_FAILURES,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.ABANDONED,
)
