"""Real servers for every test: one pair a run, a fresh database and an empty broker a test."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from db.engine import connect, transact
from db.schema import migrate
from local.servers import Servers
from tests.makers import PickedPixels
from worker.runtime import Runtime
from worker.settings import Settings

COPY = "ledger_copy"  # the database of the test that runs


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The embedded broker and database, started for real.

    Their home is not pytest's: it closes its folders at every start to all but their owner, and root's PostgreSQL,
    which runs as another user, dies of that in the middle of somebody else's run.
    """
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder, Servers(Path(folder), broker_port=0) as servers:
        yield servers


@pytest.fixture(scope="session")
def broker_url(servers: Servers) -> Iterator[str]:
    """The broker, which Celery's application takes from the environment as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINVEC_BROKER_URL", servers.broker_url)
        yield servers.broker_url


@pytest.fixture
def broker(broker_url: str) -> Iterator["redis.Redis"]:
    """The broker, empty."""
    with redis.Redis.from_url(broker_url) as broker:
        broker.flushdb()
        yield broker


@pytest.fixture(scope="session")
def server_url(servers: Servers) -> URL:
    """The database server, for SQLAlchemy."""
    return make_url(servers.database_url).set(drivername="postgresql+psycopg")


@pytest.fixture(scope="session")
def operator(server_url: URL) -> Iterator[Engine]:
    """Makes and drops databases, and ends their sessions."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:  # nobody kills this server, and a hundred databases are made on it
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield engine
    engine.dispose()


@pytest.fixture
def empty_database_url(operator: Engine, server_url: URL) -> Iterator[str]:
    """A database of the test's own, not migrated."""
    with operator.connect() as connection:
        connection.execute(text("CREATE DATABASE empty"))
        yield _url(server_url, "empty")
        connection.execute(text("DROP DATABASE empty WITH (FORCE)"))


@pytest.fixture(scope="session")
def template(operator: Engine, server_url: URL) -> str:
    """A migrated database to copy."""
    with operator.connect() as connection:
        connection.execute(text("CREATE DATABASE ledger"))
    engine = connect(_url(server_url, "ledger"))
    migrate(engine)
    engine.dispose()
    return "ledger"


@pytest.fixture(scope="session")
def engine_of_copies(server_url: URL) -> Iterator[Engine]:
    """Kept between tests for what it has compiled; the database behind it is another one each time."""
    engine = connect(_url(server_url, COPY))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(engine_of_copies: Engine, operator: Engine, template: str) -> Iterator[Engine]:
    """An engine of a migrated database of the test's own."""
    with operator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {COPY} TEMPLATE {template}"))
        yield engine_of_copies
        engine_of_copies.dispose()
        connection.execute(text(f"DROP DATABASE {COPY} WITH (FORCE)"))


@pytest.fixture
def database_url(engine: Engine) -> str:
    """A migrated database of the test's own."""
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture
def ledger(engine: Engine) -> Callable[[Callable[[Session], Any]], Any]:
    """Runs a function of a session in a transaction of its own, on a fresh ledger."""
    return partial(transact, engine)


@pytest.fixture
def runtime(broker: "redis.Redis", broker_url: str, database_url: str, engine: Engine) -> Runtime:
    """A worker's runtime on a fresh ledger, its towers stand-ins, its broker empty."""
    runtime = Runtime(Settings(broker_url=broker_url, database_url=database_url))
    runtime.engine, runtime.towers = engine, PickedPixels()
    return runtime


def _url(server_url: URL, database: str) -> str:
    return server_url.set(database=database).render_as_string(hide_password=False)
