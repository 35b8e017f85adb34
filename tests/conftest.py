"""Real servers for every test: one pair a run, a fresh database and an empty broker a test."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
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
FIRST_STACK = {"test_main_job", "test_faults", "test_operator", "test_doctor"}  # take as long as all others together
UNHARMED = {  # of a server that is not killed, and on which hundreds of databases are made
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",  # of databases that live for a moment
    "file_copy_method": "clone",
}


def pytest_configure() -> None:
    """End by a request to end as by Ctrl-C, so that servers are stopped; in a child that was forked, at once."""
    own = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != own:
            os._exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the tests that ask for `costly`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Share the tests out: those that take longest first, those that share a costly fixture to one process."""
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if _is_costly(item)])
        items[:] = [item for item in items if not _is_costly(item)]
    for item in items:
        if shared := _shared(item):
            item.add_marker(pytest.mark.xdist_group(shared))
    items.sort(key=lambda item: (not _is_costly(item), "servers" in _fixtures(item)))


def _fixtures(item: pytest.Item) -> dict[str, Sequence[pytest.FixtureDef[Any]]]:
    """All that an item asks for, directly or not."""
    assert isinstance(item, pytest.Function)
    return item._fixtureinfo.name2fixturedefs


def _is_costly(item: pytest.Item) -> bool:
    return "costly" in _fixtures(item)


def _shared(item: pytest.Item) -> str | None:
    """The name of those that run in one process: half of those on a stack, or of a module with fixtures of its own."""
    fixtures = _fixtures(item)
    if "stack" in fixtures and fixtures["stack"][-1].scope == "session":
        return "stack-1" if item.path.stem in FIRST_STACK else "stack-2"
    return item.path.stem if any(each[-1].scope == "module" for each in fixtures.values()) else None


@pytest.fixture(scope="session")
def costly() -> None:
    """Asked for by what starts a server or trains a tower."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What this process starts takes Ctrl-C, also where it ignores that itself, as in `make test &`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def servers(costly: None) -> Iterator[Servers]:
    """The embedded broker and database, started for real.

    Their home is not pytest's: it closes its folders at every start to all but their owner, and root's PostgreSQL,
    which runs as another user, dies of that in the middle of somebody else's run. The broker has no users
    but those that a test makes.
    """
    with tempfile.TemporaryDirectory(prefix="twinvec-") as folder, Servers(Path(folder), guarded=False) as servers:
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
    with engine.connect() as connection:
        for name, value in UNHARMED.items():
            connection.execute(text(f"ALTER SYSTEM SET {name} = {value}"))
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
        connection.execute(text(f"CREATE DATABASE {COPY} TEMPLATE {template} STRATEGY FILE_COPY"))
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
