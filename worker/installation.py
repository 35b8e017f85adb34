"""Which installation the lanes in a broker belong to, so that no worker takes what is meant for another ledger.

The first whose workers start there writes its id into the broker, under its prefix, and it stays. Every process that
takes or sends messages compares it with its own database's, each time that it connects. It must not know lanes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any
from uuid import UUID

import redis
from sqlalchemy.exc import SQLAlchemyError

from db.engine import connect
from db.faults import Fault
from db.identity import installation
from twinvec_client.contract.broker import key_prefix
from worker.broker import connect_broker
from worker.runfile import RunFileError
from worker.settings import NoDatabase, Settings

KEY = "installation"  # without the prefix


def own(settings: Settings) -> str | None:
    """The id of this process's ledger; None where the database does not say it, as long as that lasts."""
    try:
        return _of(settings.require_database())
    except (SQLAlchemyError, NoDatabase, RunFileError):
        return None


def owner(server: Any, prefix: str) -> str | None:
    """The id of the installation that the lanes belong to; None where they are nobody's, or the user may not ask."""
    try:
        return read(server.get(key_prefix(prefix) + KEY))
    except redis.ResponseError:
        return None


def claim(server: Any, prefix: str, id: str, *, by_force: bool = False) -> str | None:
    """Note that the lanes belong to an installation, unless they are another's; whose they are.

    by_force: whatever stands there, of a broker that is this installation's alone.
    """
    with suppress(redis.ResponseError):  # the user may not
        server.set(key_prefix(prefix) + KEY, id, nx=not by_force)
    return owner(server, prefix)


def is_other(server: Any, settings: Settings) -> bool:
    """Whether the lanes are another installation's, as far as broker and database say. Raises RedisError."""
    theirs = owner(server, settings.lane_prefix())
    return theirs is not None and own(settings) not in (None, theirs)


def faults(url: str, settings: Settings, *, claiming: bool = False, by_force: bool = False) -> list[Fault]:
    """Whether the broker's lanes are another installation's. Nothing is found where the database does not answer.

    claiming: make them this one's where they are nobody's. Raises RedisError, OSError.
    """
    mine, prefix = own(settings), settings.lane_prefix()
    if mine is None:
        return []
    with connect_broker(url, socket_connect_timeout=3, socket_timeout=10) as server:
        theirs = claim(server, prefix, mine, by_force=by_force) if claiming else owner(server, prefix)
    return [] if theirs in (None, mine) else [fault(theirs, mine, prefix)]


def fault(theirs: str, mine: str, prefix: str) -> Fault:
    """What is said where lanes are another installation's."""
    found = (
        f"the broker's lanes with the prefix {prefix} belong to the installation {theirs:.8}, and the database is that "
        f"of {mine:.8}"
    )
    advice = (
        f"set TWINVEC_PREFIX to another name for the workers and clients of {mine:.8}, or another database number in "
        f"TWINVEC_BROKER_URL; if {theirs:.8} is gone, `DEL {key_prefix(prefix)}{KEY}` in the broker frees its lanes"
    )
    return Fault(found, advice)


def read(value: Any) -> str | None:
    """An id as it stands in the broker; None of anything else."""
    try:
        return str(UUID(value.decode()))
    except (AttributeError, ValueError):
        return None


@cache
def _of(database_url: str) -> str:
    """Kept: a ledger never changes its id. Raises SQLAlchemyError."""
    engine = connect(database_url)
    try:
        with engine.connect() as connection:
            return installation(connection)
    finally:
        engine.dispose()
