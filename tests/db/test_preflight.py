"""What makes a database unfit is found on databases that are: made so on the real server."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text

from db import preflight
from db.engine import connect
from db.faults import Fault, Severity, clock_faults
from db.preflight import database_faults
from db.schema import migrate
from local.servers import Servers
from local.servers.postgres import SYSTEM_USER, _binaries
from local.servers.process import await_ready, spawn, wait_for_end

Make = Callable[..., URL]


@pytest.fixture
def make(operator: Engine, server_url: URL) -> Iterator[Make]:
    """Makes the database `odd` with these options, and changes it by these statements; gone afterwards."""
    with operator.connect() as connection:

        def made(options: str = "", *changes: str) -> URL:
            connection.execute(text(f"CREATE DATABASE odd TEMPLATE template0 {options}"))
            for change in changes:
                connection.execute(text(change))
            return server_url.set(database="odd")

        yield made
        connection.execute(text("DROP DATABASE IF EXISTS odd WITH (FORCE)"))
        connection.execute(text("DROP ROLE IF EXISTS plain"))


def faults(url: URL, *, processes: int = 1, tables: bool = False) -> list[Fault]:
    return database_faults(url.render_as_string(hide_password=False), processes=processes, tables=tables)


def refusal(url: URL, *, processes: int = 1, tables: bool = False) -> str:
    """The one fault that is found, which must be a refusal."""
    (fault,) = faults(url, processes=processes, tables=tables)
    assert fault.severity is Severity.REFUSAL
    return str(fault)


def execute(url: URL, *statements: str) -> None:
    engine = connect(url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_a_database_that_will_do_has_no_fault(make: Make) -> None:
    assert faults(make()) == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_refused(make: Make, encoding: str) -> None:
    url = make(f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'")
    assert refusal(url).startswith(f"the database odd has the encoding {encoding} and not UTF8: make one with CREATE ")


def test_a_pooler_that_swallows_a_connection_s_options_is_refused(make: Make) -> None:
    """As PgBouncer does with `ignore_startup_parameters = options`."""
    swallowed = {"options": "-c lock_timeout=0 -c idle_in_transaction_session_timeout=0"}
    url = make().update_query_dict(swallowed)
    assert "add pooler=transaction to TWINVEC_DATABASE_URL" in refusal(url)
    assert faults(url.update_query_dict({"pooler": "transaction"})) == []


def test_a_database_that_is_set_to_read_only_is_refused(make: Make) -> None:
    url = make("", "ALTER DATABASE odd SET default_transaction_read_only = on")
    assert refusal(url).startswith("the database odd is read-only: set default_transaction_read_only to off")


def test_a_server_without_pgvector_is_refused(make: Make) -> None:
    url = make("", "ALTER DATABASE odd SET extension_control_path = '/nowhere'")
    assert refusal(url).startswith("the PostgreSQL server has no pgvector: install pgvector 0.8.4 or newer there")


def test_a_server_that_offers_an_old_pgvector_is_refused(make: Make, servers: Servers) -> None:
    control = servers.home / "old" / "extension" / "vector.control"
    control.parent.mkdir(parents=True, exist_ok=True)
    control.write_text("default_version = '0.8.3'\n")
    url = make("", f"ALTER DATABASE odd SET extension_control_path = '{servers.home / 'old'}'")
    said = refusal(url)
    assert said.startswith("pgvector 0.8.3 is too old: install pgvector 0.8.4 or newer on the server")
    assert "`twinvec migrate`" in said


def test_a_database_whose_pgvector_was_never_updated_is_refused(make: Make) -> None:
    url = make()
    execute(url, "CREATE EXTENSION vector", "UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    said = refusal(url)
    assert said.startswith("the database odd has pgvector 0.8.3, which is too old: run ALTER EXTENSION vector UPDATE")


def test_versions_are_compared_as_numbers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PGVECTOR", "0.10.0")
    assert "0.10.0 or newer" in refusal(make())


def test_an_old_server_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "POSTGRES", 99)
    assert refusal(make()).endswith(" is too old: use PostgreSQL 99 or newer")


def test_more_connections_than_the_server_admits_are_refused_with_the_numbers(make: Make) -> None:
    said = refusal(make(), processes=30)
    assert said.startswith("the database admits 97 connections, and 30 processes need 120 (4 each): raise ")


def test_the_limit_of_a_role_or_of_a_database_counts_as_well(make: Make) -> None:
    url = make("", "CREATE ROLE plain LOGIN CONNECTION LIMIT 7").set(username="plain")
    assert "admits 7 connections, and 2 processes need 8" in refusal(url, processes=2)
    execute(url.set(username="postgres"), "ALTER DATABASE odd CONNECTION LIMIT 3")
    assert "admits 3 connections, and 1 process needs 4" in refusal(url)
    assert faults(url.set(username="postgres")) == [], "a superuser has no such limit"


def test_connections_that_others_hold_are_warned_of(make: Make, operator: Engine) -> None:
    url = make()
    with operator.connect(), operator.connect():
        (fault,) = faults(url, processes=24)  # 96 of 97
    assert fault.severity is Severity.WARNING
    assert "and 24 processes need 96 (4 each)" in fault.found


def test_a_database_without_tables_is_refused_where_they_must_be_there(make: Make) -> None:
    url = make()
    assert refusal(url, tables=True) == "the database has no Twinvec tables yet: run `twinvec migrate`"
    assert faults(url) == []


def test_a_role_without_its_rights_is_told_which(make: Make) -> None:
    url = make("", "CREATE ROLE plain LOGIN")
    engine = connect(url.render_as_string(hide_password=False))
    migrate(engine)
    engine.dispose()
    assert faults(url, tables=True) == []
    plain = url.set(username="plain")
    granted = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    execute(url, f"GRANT {granted} TO plain", "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO plain")
    execute(url, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO plain")
    assert faults(plain, tables=True) == []
    execute(url, "REVOKE SELECT ON digits, jobs FROM plain", "REVOKE USAGE ON SEQUENCE digits_id_seq FROM plain")
    said = refusal(plain, tables=True)
    assert said.startswith("the role plain lacks SELECT on digits, jobs; USAGE on digits_id_seq: as the tables' owner")
    execute(url, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    said = refusal(plain, tables=True)
    assert said.startswith("the role plain may not use the schema public: as its owner, GRANT USAGE ON SCHEMA public ")


def test_a_hot_standby_is_refused(standby: URL) -> None:
    assert refusal(standby).startswith("the database server is a standby, which cannot be written to: set TWINVEC_")


@pytest.mark.parametrize(("ahead", "said"), [(3600, "3,600 s ahead of"), (-61, "61 s behind")])
def test_clocks_that_differ_are_warned_of_with_the_figure(ahead: float, said: str) -> None:
    (fault,) = clock_faults("the database's", ahead)
    assert fault.severity is Severity.WARNING
    assert fault.found == f"the database's clock is {said} this machine's"
    assert list(clock_faults("the database's", ahead / 100)) == []


@pytest.fixture
def standby(servers: Servers, server_url: URL) -> Iterator[URL]:
    """A hot standby of the server."""
    user = SYSTEM_USER if os.geteuid() == 0 else None
    sockets, port = str(server_url.query["host"]), str(server_url.query["port"])
    with tempfile.TemporaryDirectory(prefix="twinvec-") as parent:
        Path(parent).chmod(0o777)
        folder, log = Path(parent) / "standby", Path(parent) / "standby.log"
        copy: list[str | Path] = ["-h", sockets, "-p", port, "-U", "postgres", "-R", "-c", "fast", "-D", folder]
        as_owner: dict[str, Any] = {"user": user, "group": user, "extra_groups": ()} if user else {}
        subprocess.run([_binaries() / "pg_basebackup", *copy], check=True, cwd="/", **as_owner)
        server = spawn([_binaries() / "postgres", "-D", folder, "-k", parent], folder=folder, log=log, user=user)
        try:
            await_ready(server, lambda: "\nready" in _state(folder), seconds=60, log=log)
            yield server_url.update_query_dict({"host": parent})
        finally:
            server.terminate()
            if not wait_for_end(server, 5):
                server.kill()


def _state(folder: Path) -> str:
    file = folder / "postmaster.pid"
    return file.read_text() if file.exists() else ""
