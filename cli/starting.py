"""Checks before a process starts to work: what it must not start with ends the command, everything else is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import redis
from sqlalchemy.exc import SQLAlchemyError

from cli.display.console import err, foreign
from cli.errors import explain
from db.faults import Fault
from db.preflight import database_faults
from worker import installation
from worker.preflight import broker_faults, insist
from worker.settings import Settings


def warn_of(faults: Iterable[Fault]) -> None:
    """Raises StartRefused where one may not start with a fault; says the others on stderr."""
    for fault in insist(faults):
        err.print(f"warning: {foreign(fault)}", soft_wrap=True)


def check_broker(url: str) -> None:
    """Raises StartRefused. A broker that does not answer yet is waited for afterwards."""
    _unless_unreachable(partial(broker_faults, url), "the broker")


def check_database(url: str, *, processes: int) -> None:
    """Raises StartRefused. A database that does not answer yet is waited for afterwards."""
    _unless_unreachable(partial(database_faults, url, processes=processes, joining=True), "the database")


def check_lanes(url: str, settings: Settings) -> None:
    """Raises StartRefused where the broker's lanes are another installation's; those of nobody become this one's."""
    with suppress(redis.RedisError, OSError):  # the check of the broker has said so
        warn_of(installation.faults(url, settings, claiming=True))


def _unless_unreachable(check: Callable[[], list[Fault]], what: str) -> None:
    try:
        faults = check()
    except (redis.RedisError, OSError, SQLAlchemyError) as error:
        said = explain(error)[0] if isinstance(error, SQLAlchemyError) else str(error)
        err.print(f"warning: {what} does not answer yet, and is waited for ({foreign(said)})", soft_wrap=True)
    else:
        warn_of(faults)
