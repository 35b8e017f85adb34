"""Engines, and transactions that are repeated after a transient error. It must not know what they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

P = ParamSpec("P")
T = TypeVar("T")

_TRANSIENT = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "23505",  # unique violation: another transaction wrote the same key first; the next try sees it
    "55P03",  # lock not available
}
OUTAGE_ATTEMPTS = 60  # about two minutes of a database that is down, to store what took minutes to compute
_SERVER_LIMITS = "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"


def connect(url: str) -> Engine:
    """An engine for one process. The pool tests a connection before lending it: a restarted server causes no error."""
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=4,
        connect_args={"options": _SERVER_LIMITS, "connect_timeout": 5, "application_name": "twinvec"},
    )


def transact(engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work(session, ...)` in a transaction of its own and commit; on a transient error, run all of it again.

    Transient: deadlocks, serialization failures, unique violations, lost connections. `work` must therefore change
    nothing but the database. A commit whose answer was lost is repeated too: `work` must recognise its own effect,
    as the fenced updates here do.
    """
    return _retrying(is_transient, attempts=5)(partial(_once, engine, work, *args, **kwargs))


def transact_once(engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `transact`, without another try: whatever the first one raises is raised."""
    return _once(engine, work, *args, **kwargs)


def transact_through_outage(
    engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `transact`, and keep trying for about two minutes while the database accepts no connections."""
    return _retrying(is_unreachable, attempts=OUTAGE_ATTEMPTS)(partial(_once, engine, work, *args, **kwargs))


def _once(engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session, *args, **kwargs)


def _retrying(passes: Callable[[BaseException], bool], *, attempts: int) -> Retrying:
    return Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed at the next try."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRANSIENT


def is_unreachable(error: BaseException) -> bool:
    """As `is_transient`; or the server is down, starting or stopping (no SQLSTATE, or class 57P)."""
    if is_transient(error):
        return True
    return isinstance(error, OperationalError) and (getattr(error.orig, "sqlstate", None) or "57P").startswith("57P")
