"""The documented users and roles on the embedded servers, with TLS before them."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import redis
from sqlalchemy import URL, Engine, create_engine, text

from db.engine import connect
from db.schema import migrate
from local.ports import HOST, free_port
from local.servers import Servers
from tests.cli.conftest import twinvec  # noqa: F401  # a fixture
from tests.lacking import lacking
from tests.makers import eventually
from tests.security.documented import acl_commands, statements
from tests.security.tls import Authority, Terminator, Upstream

UNKNOWN = "+client|setinfo"  # to Redis 7.0, as the page says
SECRET = "Zq7xVw"  # in every password, so that a part of one is found as well


def password(of: str) -> str:
    """With characters that a URL has to encode."""
    return f"{of}/{SECRET}@{of}"


@dataclass
class Users:
    """The broker with the users of the page; the client connects as one of them."""

    url: str

    def url_of(self, user: str) -> str:
        return self.url.replace("redis://", f"redis://{user}:{quote(password(user), safe='')}@")

    def connect(self, user: str) -> "redis.Redis":
        return redis.Redis.from_url(self.url_of(user))


@pytest.fixture(scope="module")
def users(embedded_users: Users) -> Users:
    """A module's own may be on Redis."""
    return embedded_users


@pytest.fixture(scope="module")
def embedded_users(broker_url: str) -> Iterator[Users]:
    """On the embedded Valkey."""
    names = {words[2] for words in acl_commands()}
    make_users(broker_url)
    yield Users(broker_url)
    with redis.Redis.from_url(broker_url) as broker:
        broker.execute_command("ACL", "DELUSER", *names)


@pytest.fixture(scope="module")
def redis_users(redis_url: str) -> Users:
    """On Redis."""
    make_users(redis_url)
    return Users(redis_url)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The oldest Redis there is to be had that will do, Debian 12's: an empty server of its own."""
    if shutil.which("redis-server") is None:
        lacking("Redis (Debian: apt install redis-server)")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    # So that it ends with this process, however that ends.
    tied = ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" else []
    words = [*tied, "redis-server", "--bind", HOST, "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    url = f"redis://{HOST}:{port}/0"
    try:
        with redis.Redis.from_url(url) as broker:
            eventually(lambda: answers(broker), "Redis to answer")
        yield url
    finally:
        server.kill()
        server.wait()


def answers(broker: "redis.Redis") -> bool:
    try:
        return bool(broker.ping())
    except redis.ConnectionError:
        return False


def make_users(url: str) -> None:
    """The users of the page, as it says for this server."""
    with redis.Redis.from_url(url) as broker:
        left_out = UNKNOWN if is_redis_7_0(broker) else None
        for words in acl_commands():
            broker.execute_command(*(_with_password(word, of=words[2]) for word in words if word != left_out))


def is_redis_7_0(broker: "redis.Redis") -> bool:
    said = broker.info("server")
    return said.get("server_name", "redis") == "redis" and str(said["redis_version"]).startswith("7.0.")


def _with_password(word: str, *, of: str) -> str:
    return f">{password(of)}" if word.startswith(">") else word


@pytest.fixture(scope="session")
def asking_for_passwords(operator: Engine, servers: Servers) -> None:
    """The embedded server trusts what reaches its socket; it asks the roles of the page for their passwords."""
    rules = servers.home / "postgres" / "pg_hba.conf"
    rules.write_text(
        f"local all twinvec_owner,twinvec_worker,twinvec_reader,twinvec_application scram-sha-256\n{rules.read_text()}"
    )
    with operator.connect() as connection:
        connection.execute(text("SELECT pg_reload_conf()"))


@pytest.fixture(scope="module")
def roles(operator: Engine, server_url: URL, asking_for_passwords: None) -> Iterator[URL]:
    """A migrated database with the roles of the page, as its superuser reaches it."""
    with operator.connect() as connection:
        for statement in statements("server"):
            for role in ("owner", "worker", "reader", "application"):
                statement = statement.replace(f"{role.upper()}-PASSWORD", password(f"twinvec_{role}"))
            connection.exec_driver_sql(statement)
    url = server_url.set(database="twinvec")
    execute(url, statements("database"))
    owner = connect(as_role(url, "twinvec_owner").render_as_string(hide_password=False))
    migrate(owner)
    owner.dispose()
    execute(as_role(url, "twinvec_owner"), statements("tables"))
    yield url
    with operator.connect() as connection:
        connection.execute(text("DROP DATABASE twinvec WITH (FORCE)"))
        for role in ("owner", "worker", "reader", "application"):
            connection.execute(text(f"DROP ROLE twinvec_{role}"))


def as_role(url: URL, role: str) -> URL:
    return url.set(username=role, password=password(role))


def execute(url: URL, statements: list[str]) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed nothing of ours."""
    return Authority(tmp_path_factory.mktemp("tls") / "strangers")


@pytest.fixture(scope="module")
def broker_tls(authority: Authority, users: Users) -> Iterator[Terminator]:
    terminator = Terminator(authority.server("IP:127.0.0.1"), to_broker(users))
    yield terminator
    terminator.close()


@pytest.fixture(scope="module")
def database_tls(authority: Authority, roles: URL) -> Iterator[Terminator]:
    terminator = Terminator(authority.server("IP:127.0.0.1"), to_database(roles), postgres=True)
    yield terminator
    terminator.close()


def to_broker(users: Users) -> Upstream:
    return partial(asyncio.open_connection, "127.0.0.1", urlsplit(users.url).port)


def to_database(roles: URL) -> Upstream:
    where = parse_qs(urlsplit(roles.render_as_string(hide_password=False)).query)
    return partial(asyncio.open_unix_connection, Path(where["host"][0]) / f".s.PGSQL.{where['port'][0]}")


def tls_broker_url(terminator: Terminator, user: str, authority: Authority | None = None, **options: str) -> str:
    """As a person would write it."""
    if authority is not None:
        options["ssl_ca_certs"] = str(authority.file)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    return f"rediss://{user}:{quote(password(user), safe='')}@127.0.0.1:{terminator.port}/0{query and '?'}{query}"


def tls_database_url(terminator: Terminator, role: str, authority: Authority | None = None, **options: str) -> str:
    if authority is not None:
        options["sslrootcert"] = str(authority.file)
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    return f"postgresql://{role}:{quote(password(role), safe='')}@127.0.0.1:{terminator.port}/twinvec?{query}"
