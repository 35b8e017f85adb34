"""Advisory locks: what several rows' worth of change must agree on. Held to the end of the transaction."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

_TOWERS = 7_360_002
_SWEEP = 7_360_003


def hold_towers(session: Session) -> None:
    """The set of towers stays as it is until commit. Many may hold it."""
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _TOWERS})


def change_towers(session: Session) -> None:
    """Alone with the set of towers: waits for every holder."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TOWERS})


def try_sweep(session: Session) -> bool:
    """Whether this transaction is the one that sweeps now."""
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SWEEP}).scalar_one())
