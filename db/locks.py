"""Advisory locks: what several rows' worth of change must agree on. Held to the end of the transaction."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

_TOWERS = 7_360_002
_SWEEP = 7_360_003
_DIGITS = 7_360_004
_KEYS = 7_360  # the first half of a key; the second is the collection's


def hold_towers(session: Session) -> None:
    """The set of towers stays as it is until commit. Many may hold it."""
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _TOWERS})


def change_towers(session: Session) -> None:
    """Alone with the set of towers: waits for every holder."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TOWERS})


def hold_digits(session: Session) -> None:
    """What digits are stored now stay so until commit, so that no vector is written of one that goes. Many may hold it.

    Not their rows' locks: each of those is a write to its page, and a vector would cost twice as much.
    """
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _DIGITS})


def remove_digits(session: Session) -> None:
    """Alone with the set of digits, to take some out: waits for every holder."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _DIGITS})


def change_keys(session: Session, collection: str) -> None:
    """Alone with the keys of a collection: waits for whoever adds or replaces some.

    Two that bring the same new keys would not see each other's rows, and of two that replace the same digits the
    second would wait for rows that are gone then.
    """
    session.execute(
        text("SELECT pg_advisory_xact_lock(:keys, hashtext(:collection))"), {"keys": _KEYS, "collection": collection}
    )


def try_sweep(session: Session) -> bool:
    """Whether this transaction is the one that sweeps now."""
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SWEEP}).scalar_one())
