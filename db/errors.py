"""The errors of this room. A docstring says what to do next; the data go to the constructor.

It must not know how a caller sees them: `tasks.answering` turns them into refusals.
"""

from sqlalchemy.exc import DBAPIError


class LedgerError(Exception):
    """Any refusal of the ledger."""


class LeaseLost(LedgerError):
    """The lease was lost to another holder, or its job was cancelled. Drop the work; nothing was written."""

    def __init__(self, batch: int) -> None:
        super().__init__(f"the lease of batch {batch} is lost")


class TowersChanged(LedgerError):
    """A tower was registered after the batch was claimed. Embed under it as well, then finish again."""

    def __init__(self, missing: set[int]) -> None:
        super().__init__(f"towers {sorted(missing)} came up meanwhile")
        self.missing = missing


class TrainingRunning(LedgerError):
    """A training is running, and only one may run at a time. Follow it, or cancel it."""

    def __init__(self, job: str) -> None:
        super().__init__(f"training {job} is under way: follow it with `twinvec job {job}`")
        self.job = job


class UnknownJob(LedgerError):
    """No job has this id."""


class UnknownBatch(LedgerError):
    """No dead batch has this id."""


class NotPausable(LedgerError):
    """The job has ended: there is nothing left to hold back."""


class NotRescuable(LedgerError):
    """This dead batch cannot be requeued."""


class BadVectors(LedgerError):
    """A tower computed NaN or infinity for some digits."""

    def __init__(self, tower: int, digits: list[int]) -> None:
        super().__init__(f"tower {tower} gave {len(digits)} digits NaN or infinity; the first is digit {digits[0]}")
        self.tower, self.digits = tower, digits


class UnknownTower(LedgerError):
    """No tower has this id."""


class NotPromotable(LedgerError):
    """The tower cannot go live. The message says why, and what to do."""


class NotRetirable(LedgerError):
    """The live tower cannot be retired. Let another go live first."""


class UnknownKey(LedgerError):
    """No digit has this key, or digits of several collections have it."""


class NotEmbedded(LedgerError):
    """The digit has no vector under the live tower yet."""


class TowerNotLive(LedgerError):
    """What was sent belongs to the space of a tower that stands no more. Look up the picture or the key instead."""

    def __init__(self, fingerprint: str, live: str, status: str | None) -> None:
        why = {None: "unknown here", "candidate": "a candidate that is still being filled"}.get(status, status)
        super().__init__(
            f"this belongs to the space of tower {fingerprint:.12}, which is {why}, and tower {live:.12} is live: "
            "look the picture or the key up instead"
        )


class NoTower(LedgerError):
    """No tower is live."""


def first_line(error: Exception) -> str:
    """The first line of the driver's message, without the statement that SQLAlchemy appends."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
