"""Engines, and transactions that outlive a lost connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

T = TypeVar("T")

_TRANSIENT = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "23505",  # unique violation: another transaction wrote the same key first; the next try sees it
    "55P03",  # lock not available
}
_SERVER_LIMITS = "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"


def connect(url: str) -> Engine:
    """An engine for one process. The pool tests a connection before it lends it, so a restart costs no error."""
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=4,
        connect_args={"options": _SERVER_LIMITS, "connect_timeout": 5, "application_name": "twinvec"},
    )


def transact(engine: Engine, work: Callable[[Session], T], *, attempts: int = 5, patient: bool = False) -> T:
    """Run `work` in a transaction of its own and commit; on what will pass, run all of it again.

    Retried: deadlocks, serialization failures, unique violations, lost connections. `work` must therefore change
    nothing but the database. A commit whose answer was lost is repeated too: `work` must recognise its own effect,
    as the fenced updates here do. patient: a database that takes no connections is waited for as well.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_unreachable if patient else is_transient),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )

    def once() -> T:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return work(session)

    return retrying(once)


def is_transient(error: BaseException) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _TRANSIENT


def is_unreachable(error: BaseException) -> bool:
    """As `is_transient`; or nobody listens, or the server starts or stops: there is no state then, or one of 57P."""
    if is_transient(error):
        return True
    return isinstance(error, OperationalError) and (getattr(error.orig, "sqlstate", None) or "57P").startswith("57P")
