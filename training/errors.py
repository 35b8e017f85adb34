"""The errors of `training`. Each message says what to do next."""

from typing import Literal

PictureReason = Literal[
    "empty",
    "too_many_bytes",
    "too_many_pixels",
    "too_costly",
    "not_a_picture",
    "damaged",
    "unsupported_depth",
    "blank",
    "several_digits",
    "unclear",
    "poison",  # it ended the process that decoded it
]


class TrainingError(ValueError):
    """An argument cannot be used, or a training failed; the message says why, and what would help."""


class PictureError(TrainingError):
    """One picture cannot become a glyph. `reason` is a stable code; send a better picture, or skip it."""

    def __init__(self, reason: PictureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["PictureError"], tuple[PictureReason, str]]:
        # The default would rebuild it from the message alone, which fails in the process that unpickles it.
        return type(self), (self.reason, str(self))


class DataError(TrainingError):
    """A data set is missing, damaged or not what its name says; point to a good copy."""


class TowerError(TrainingError):
    """A tower file cannot be trusted or does not fit; train a new tower, or fetch the file again."""
