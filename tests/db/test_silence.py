"""Connections to the database that fall silent: nothing is closed, and nothing answers."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db import engine as engines
from db import sessions
from db.engine import Silent, connect, transact, transact_long
from tests.makers import eventually
from tests.silence import Proxy, before, url_through

LIMIT = 1.0  # seconds; of a statement here


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxy]:
    with before(engine) as proxy:
        yield proxy


@pytest.fixture
def proxied(engine: Engine, proxy: Proxy) -> Iterator[Engine]:
    proxied = connect(url_through(proxy, engine), statement_limit=LIMIT)
    yield proxied
    proxied.dispose()


@pytest.fixture
def patient(engine: Engine, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Its statements may take longer than a test."""
    monkeypatch.setattr(engines, "ASKED_AFTER", 0.3)
    monkeypatch.setattr(engines, "ARRIVES_WITHIN", 0.2)
    patient = connect(url_through(proxy, engine), statement_limit=60)
    yield patient
    patient.dispose()


def test_a_transaction_whose_connection_falls_silent_is_run_again_and_takes_effect_once(
    engine: Engine, proxied: Engine, proxy: Proxy
) -> None:
    transact(engine, lambda session: session.execute(text("CREATE TABLE notes (value int)")))
    tries = []

    def work(session: Session) -> None:
        session.execute(text("INSERT INTO notes VALUES (1)"))
        tries.append(1)
        if len(tries) == 1:
            assert proxy.swallow() > 0
        session.execute(text("INSERT INTO notes VALUES (2)"))

    start = time.monotonic()
    transact(proxied, work)
    assert len(tries) == 2
    assert time.monotonic() - start < 3 * LIMIT + 5
    assert transact(engine, lambda session: session.execute(text("SELECT count(*) FROM notes")).scalar_one()) == 2


def test_a_statement_that_the_server_does_not_work_on_is_not_waited_for_and_its_locks_are_let_go(
    engine: Engine, patient: Engine, proxy: Proxy
) -> None:
    transact(engine, lambda session: session.execute(text("CREATE TABLE notes AS SELECT 1 AS value")))
    tries = []

    def work(session: Session) -> None:
        session.execute(text("UPDATE notes SET value = value + 1"))
        tries.append(1)
        if len(tries) == 1:
            proxy.swallow()
        session.execute(text("UPDATE notes SET value = value + 1"))

    start = time.monotonic()
    transact(patient, work)
    assert len(tries) == 2
    assert time.monotonic() - start < 10, "its limit was waited for, or the locks of the session before"
    assert transact(engine, lambda session: session.execute(text("SELECT value FROM notes")).scalar_one()) == 3


def test_a_statement_that_takes_long_is_waited_for(patient: Engine) -> None:
    tries = []

    def work(session: Session) -> int:
        tries.append(1)
        session.execute(text("SELECT pg_sleep(1.5)"))
        return 7

    assert transact(patient, work) == 7
    assert len(tries) == 1


def test_a_session_that_waits_for_the_rows_of_a_silent_client_is_ended_and_lets_go_of_its_rows(
    engine: Engine, proxied: Engine, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MARGIN", 0.5)
    transact(engine, lambda session: session.execute(text("CREATE TABLE notes (value text)")))
    transact(engine, lambda session: session.execute(text("INSERT INTO notes VALUES ('a')")))
    connection = proxied.raw_connection()
    driver: Any = connection.driver_connection
    driver.limit = 0.3
    with pytest.raises(Silent), driver.cursor() as cursor:
        cursor.execute("UPDATE notes SET value = 'b'")
        with cursor.copy("COPY notes FROM STDIN") as copy:
            proxy.swallow()
            copy.write("c\n")
    connection.invalidate()

    def end() -> int:
        return transact(engine, sessions.end_silent, statement_limit=LIMIT)

    assert end() == 0, "its client may still be there"
    eventually(lambda: end() == 1, "the end of the session")
    assert transact(
        engine, lambda session: session.execute(text("DELETE FROM notes RETURNING value")).scalars().all()
    ) == ["a"]


def test_connections_that_fell_silent_in_the_pool_cost_one_short_wait(
    proxied: Engine, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PING_LIMIT", 0.3)
    lent = [proxied.connect() for _ in range(4)]
    for connection in lent:
        connection.close()
    assert proxy.swallow() == 4
    start = time.monotonic()
    for _ in range(4):
        assert transact(proxied, lambda session: session.execute(text("SELECT 1")).scalar_one()) == 1
    assert time.monotonic() - start < engines.STATEMENT_LIMIT / 4, "more than one connection was waited for"


def test_a_statement_without_end_is_given_up_by_the_server(proxied: Engine) -> None:
    with pytest.raises(OperationalError, match="statement timeout"):
        transact(proxied, lambda session: session.execute(text("SELECT pg_sleep(60)")))


def test_work_over_many_rows_gets_minutes_where_its_limit_is_reached(proxied: Engine) -> None:
    tries = []

    def work(session: Session) -> int:
        tries.append(1)
        session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 1.5 * LIMIT})
        return 7

    assert transact_long(proxied, work) == 7
    assert len(tries) == 2
