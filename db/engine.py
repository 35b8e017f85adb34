"""Engines, and transactions that are repeated after a transient error. It must not know what they do."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import _WaitTimeout
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from db.bulk import Reals, RealsDumper, Texts, TextsDumper

P = ParamSpec("P")
T = TypeVar("T")

_TRANSIENT = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "23505",  # unique violation: another transaction wrote the same key first; the next try sees it
    "55P03",  # lock not available
}
OUTAGE_ATTEMPTS = 60  # about two minutes of a database that is down, to store what took minutes to compute
RECYCLE = 1800  # seconds of a connection: the process at its other end remembers each table it has seen, dropped or not
STATEMENT_CANCELLED = "57014"
STATEMENT_LIMIT = 15.0  # seconds; `transact_long` allows more
_POOLER = "pooler"  # the parameter of a URL that says that a pooler stands before the database
PING_LIMIT = 3.0  # seconds for a pooled connection to prove that it is alive
FRESH = 1.0  # seconds after its last use for which it need not: a transaction whose connection is lost is run again
ASKED_AFTER = 3.0  # seconds without an answer, after which the server is asked whether it works on one
ARRIVES_WITHIN = 1.0  # seconds for an answer that the server says it has given
_LONG_LIMIT = 600.0
_LIMITS = {  # so that the server, too, gives up on a client it has lost, and frees its locks
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "25s",
}
_SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
}
_KEEPALIVES = {  # libpq's: a peer that is gone is noticed within 20 s, also while nothing is sent
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
    "connect_timeout": 5,
}


_IDLES = """
    SELECT state LIKE 'idle%%' OR (state = 'active' AND wait_event = 'ClientRead') FROM pg_stat_activity WHERE pid = %s
"""
_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = current_user
"""


class Silent(psycopg.OperationalError):
    """The database did not answer in time. Its connection is closed, and the next one may fare better."""


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that closes itself when an answer takes longer than `limit` seconds.

    A network that swallows what is sent, without closing anything, is otherwise waited for without end: the kernel's
    keepalives are answered by whatever stands in between. A statement may take long; so the server is asked, over
    another connection, whether it works on it, and where it does not the limit is not waited for.
    """

    limit: float | None = PING_LIMIT
    only_begun = False  # whether nothing has been asked since `begin`
    returned_at = -math.inf  # when it was last given back to the pool, by `time.monotonic()`
    another: Callable[[], psycopg.Connection[Any]] | None = None  # opens one to the same server; None: its sessions are
    # not its clients' own

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        self.only_begun = False
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        waited, left, patience = 0.0, math.inf if self.limit is None else self.limit, ASKED_AFTER
        while True:
            step = min(patience, left)
            try:
                return super().wait(gen, interval, step)
            except _WaitTimeout:
                waited, left, patience = waited + step, left - step, 2 * patience
                if left <= 0 or self._is_forgotten():
                    self.pgconn.finish()
                    raise Silent(f"the database did not answer within {waited:g} s") from None

    def _is_forgotten(self) -> bool:
        """Whether the server has nothing to do for this connection, and what it may have answered does not arrive. Its
        session, and the locks that it holds, are then ended; where the server does not say, nothing is."""
        try:
            if self.another is None or self.pgconn.flush() != 0:  # it has not been told all yet
                return False
            with self.another() as other:
                said = other.execute(_IDLES, [self.pgconn.backend_pid]).fetchone()
                if said not in (None, (True,)) or self._is_readable(ARRIVES_WITHIN):
                    return False
                other.execute(_END, [self.pgconn.backend_pid])
        except psycopg.Error:
            return False
        return True

    def _is_readable(self, within: float) -> bool:
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(1000 * within))

    def begin(self) -> bool:
        """Begin a transaction, for the first statement to find begun; true, as a test of the connection is.

        Where it was in use just now, that is left to the first statement, which may travel together with it.
        """
        if time.monotonic() - self.returned_at < FRESH:
            return True
        with self.lock:
            self.wait(self._start_query())
        self.only_begun = True
        return True

    def _start_query(self) -> PQGen[None]:
        """As psycopg's, which in a pipeline waits until the transaction has begun."""
        idle = self.pgconn.transaction_status == TransactionStatus.IDLE
        if self._pipeline is not None and idle and not self.autocommit:
            yield from self._exec_command(self._get_tx_start_command())
        else:
            yield from super()._start_query()

    def set_autocommit(self, value: bool) -> None:
        if self.only_begun:
            self.rollback()
        super().set_autocommit(value)


def connect(url: str, *, statement_limit: float = STATEMENT_LIMIT) -> Engine:
    """An engine for one process. The pool tests a connection before lending it, but one that was in use just now: a
    restarted server causes no error. The test is the BEGIN that a transaction needs anyway, so that it takes no time of
    its own.

    statement_limit: seconds that a statement may take, and that an answer is waited for. Options that the URL sets
    itself are left as it sets them.

    A URL with `pooler=transaction` leads to a pooler that gives each transaction any of its sessions, as PgBouncer does
    with `pool_mode = transaction`. Nothing is left in a session then: limits are set in each transaction, and no
    statement is prepared.
    """
    place = make_url(url)
    given = place.query
    pooled = _is_pooled(place)
    limits = _LIMITS | {"statement_timeout": f"{statement_limit:g}s"}
    own: dict[str, Any] = {"application_name": "twinvec", **_KEEPALIVES}
    own["client_encoding"] = "utf8"  # whatever the database's: from one in SQL_ASCII the driver returns bytes
    if pooled:
        own["prepare_threshold"] = None
    else:
        options = [f"-c {name}={value}" for name, value in (limits | _SERVER_KEEPALIVES).items()]
        own["options"] = " ".join([*options, str(given.get("options", ""))])
    engine = create_engine(
        place.difference_update_query([_POOLER]),
        pool_pre_ping=True,
        hide_parameters=True,  # of a statement that fails: callers' keys, in logs
        pool_size=4,
        pool_use_lifo=True,  # the one that was used last has been tested by that
        pool_recycle=RECYCLE,
        connect_args={name: value for name, value in own.items() if name == "options" or name not in given},
    )

    begins: Any = LimitedConnection.begin
    engine.dialect.do_ping = begins  # type: ignore[method-assign]  # SQLAlchemy's sends a statement of its own

    @event.listens_for(engine, "do_connect")
    def limited(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> LimitedConnection:
        connection = LimitedConnection.connect(*arguments, **options)
        connection.adapters.register_dumper(Reals, RealsDumper)
        connection.adapters.register_dumper(Texts, TextsDumper)
        if not pooled:
            connection.another = partial(LimitedConnection.connect, *arguments, **options, autocommit=True)
        return connection

    if pooled:
        # Not by `set_config`: after a query, a transaction can no longer be given its isolation level.
        statements = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in limits.items())

        @event.listens_for(engine, "begin")
        def limit(connection: Connection) -> None:
            connection.exec_driver_sql(statements)

    @event.listens_for(engine, "checkout")  # after the ping
    def lend(connection: LimitedConnection, *_: Any) -> None:
        connection.limit = statement_limit + 2  # the server's own limit comes first: its error says which statement

    @event.listens_for(engine, "checkin")
    def take_back(connection: LimitedConnection | None, *_: Any) -> None:
        if connection is not None:
            connection.limit = PING_LIMIT
            connection.returned_at = time.monotonic()

    return engine


def _is_pooled(place: URL) -> bool:
    kind = place.query.get(_POOLER)
    if kind not in (None, "transaction"):
        raise ArgumentError(f"{_POOLER}={kind}: only {_POOLER}=transaction is known")
    return kind is not None


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


def transact_long(engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `transact`, for work that may touch very many rows: where a statement reaches its limit, it gets ten minutes.

    Only then: that limit is the server's answer, so the server is there, and a connection that has fallen silent is
    still noticed as fast as everywhere else.
    """
    try:
        return transact(engine, work, *args, **kwargs)
    except DBAPIError as error:
        if not _took_too_long(error):
            raise
        result: T = transact(engine, _with_minutes, work, *args, **kwargs)  # type: ignore[arg-type]  # two ParamSpecs
        return result


def transact_through_outage(
    engine: Engine, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `transact_long`, and keep trying for about two minutes while the database accepts no connections."""
    retrying = _retrying(is_unreachable, attempts=OUTAGE_ATTEMPTS)
    try:
        return retrying(partial(_once, engine, work, *args, **kwargs))
    except DBAPIError as error:
        if not _took_too_long(error):
            raise
        again: Any = partial(_once, engine, _with_minutes, work)
        result: T = retrying(again, *args, **kwargs)
        return result


def without_limit(connection: Connection) -> None:
    """Let the statements of this transaction take as long as they need: a migration's go through whole tables."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver: Any = connection.connection.driver_connection
    driver.limit = None


def _took_too_long(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == STATEMENT_CANCELLED


def _with_minutes(session: Session, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Do work whose statements take up to ten minutes."""
    session.execute(text(f"SET LOCAL statement_timeout = '{_LONG_LIMIT:g}s'"))
    connection: Any = session.connection().connection.driver_connection
    connection.limit = _LONG_LIMIT + 2
    return work(session, *args, **kwargs)


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
