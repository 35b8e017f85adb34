"""Advisory locks, for changes that span several rows or tables. Each is held to the end of the transaction.

It must not read or write a row.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

_TOWERS = 7_360_002
_SWEEP = 7_360_003
_DIGITS = 7_360_004
_KEYS = 7_360  # the first half of a key; the second is the collection's


# Queries with their parameters, for those who send several together.

HOLD_TOWERS = ("SELECT pg_advisory_xact_lock_shared(%s)::text", (_TOWERS,))  # as `hold_towers`
HOLD_DIGITS = ("SELECT pg_advisory_xact_lock_shared(%s)::text", (_DIGITS,))  # as `hold_digits`


def changing_keys(collection: str) -> tuple[str, tuple[int, str]]:
    """As `change_keys`."""
    return "SELECT pg_advisory_xact_lock(%s, hashtext(%s))::text", (_KEYS, collection)


def hold_towers(session: Session) -> None:
    """Shared: the set of towers, and their statuses, stay as they are until commit."""
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _TOWERS})


def change_towers(session: Session) -> None:
    """Exclusive: before towers are added or change status. Waits for every holder."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TOWERS})


def hold_digits(session: Session) -> None:
    """Shared: no digit is deleted or relabelled until commit.

    So no vector is written for a deleted digit, or with an old label. Not row locks: each of those writes to the row's
    page, and a vector would cost twice as much.
    """
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _DIGITS})


def remove_digits(session: Session) -> None:
    """Exclusive: before digits are deleted or relabelled. Waits for every holder."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _DIGITS})


def change_keys(session: Session, collection: str) -> None:
    """Exclusive for one collection: before keys are added or replaced. Waits for other such transactions.

    Two that bring the same new keys would not see each other's rows, and of two that replace the same digits the
    second would wait for rows that are deleted by then.
    """
    session.execute(
        text("SELECT pg_advisory_xact_lock(:keys, hashtext(:collection))"), {"keys": _KEYS, "collection": collection}
    )


def try_sweep(session: Session) -> bool:
    """Take the sweep's lock without waiting; False where another transaction holds it."""
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SWEEP}).scalar_one())
