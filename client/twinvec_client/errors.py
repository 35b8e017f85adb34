"""What can go wrong for a caller, one class each; its docstring is its message where there is nothing to add.

A worker answers a refused request with the class's name and a sentence; `revive` turns that back into an
exception of this module, so that nothing on the wire ever names a module to import.
"""

from __future__ import annotations


class TwinvecError(Exception):
    """Any refusal or failure of Twinvec. Catch this to catch them all."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class BrokerUnavailable(TwinvecError):
    """The broker cannot be reached. Check the URL, and that the broker runs."""


class NoAnswer(TwinvecError):
    """The broker took the request, and no worker answered in time. Check that workers run on its lane."""


class Paused(NoAnswer):
    """What this needs is paused by an operator. The message says by whom; it goes on when that is resumed."""


class DatabaseUnavailable(TwinvecError):
    """A worker answered that it cannot reach its database. Accepted work is kept; try again later."""


class NoTower(TwinvecError):
    """No tower is live yet, so nothing can be embedded or compared. Train one first."""


class TowerNotLive(TwinvecError):
    """The vector, or the answer to be continued, is of a tower that stands no more. Look the picture up again."""


class OtherInstallation(TwinvecError):
    """The broker's workers are of another installation than the one meant. Check the broker's URL and the prefix."""


class UnknownJob(TwinvecError):
    """No job has this id."""


class UnknownBatch(TwinvecError):
    """No dead batch has this id."""


class NotPausable(TwinvecError):
    """The job has ended: there is nothing left to pause."""


class NotRescuable(TwinvecError):
    """This dead batch cannot be queued again. The message says what to do instead."""


class UnknownTower(TwinvecError):
    """No tower has this id."""


class NotPromotable(TwinvecError):
    """The tower cannot go live. The message says why, and what to do."""


class NotRetirable(TwinvecError):
    """The live tower cannot be retired. Let another go live first."""


class UnknownKey(TwinvecError):
    """No stored digit has this key; or several collections have it, and none was named."""


class NotEmbedded(TwinvecError):
    """The digit is stored and has no vector yet. Wait for its job."""


class PictureRefused(TwinvecError):
    """The picture of a query cannot be read. The message says why, as `failures` would."""


class InvalidRequest(TwinvecError):
    """An argument is out of its limits. The message names the argument and the limit."""


class IdempotencyConflict(TwinvecError):
    """This idempotency key was used before for other pictures. Use a new key for new work."""


class PicturesLost(TwinvecError):
    """Pictures that were accepted are no longer stored. Send them again under the same idempotency key."""


class TrainingRunning(TwinvecError):
    """A training is already queued or running; one goes at a time. The message names its job."""


class TrainingFailed(TwinvecError):
    """A training ended without a tower. The message says why."""


class NotReady(TwinvecError, TimeoutError):
    """The job has not ended within the timeout. It goes on; wait again."""


class WorkerError(TwinvecError):
    """A worker failed with an unexpected error. Its log has the traceback."""


_BY_NAME = {
    kind.__name__: kind
    for kind in (
        DatabaseUnavailable,
        NoTower,
        OtherInstallation,
        TowerNotLive,
        Paused,
        NotPausable,
        NotRescuable,
        UnknownBatch,
        UnknownJob,
        UnknownKey,
        UnknownTower,
        NotPromotable,
        NotRetirable,
        NotEmbedded,
        PictureRefused,
        InvalidRequest,
        TrainingRunning,
    )
}


def revive(name: str, message: str) -> TwinvecError:
    """The exception a worker named. A name this version does not know becomes a `WorkerError`."""
    kind = _BY_NAME.get(name)
    return kind(message) if kind else WorkerError(f"{name}: {message}")
