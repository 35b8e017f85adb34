"""Transactions outlive what passes, and nothing else."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from db.bulk import cursor, fetch
from db.engine import LimitedConnection, connect, transact, transact_long, transact_through_outage
from db.vectors import search
from tests.makers import Ledger, together


@pytest.fixture
def notes(ledger: Ledger) -> None:
    """A table of numbered notes, 1 and 2."""
    ledger(lambda session: session.execute(text("CREATE TABLE notes (id int PRIMARY KEY, value int DEFAULT 0)")))
    ledger(lambda session: session.execute(text("INSERT INTO notes VALUES (1), (2)")))


def values(ledger: Ledger) -> list[int]:
    return list(ledger(lambda session: session.execute(text("SELECT value FROM notes ORDER BY id")).scalars().all()))


def backend(session: Session) -> int:
    return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def kill(operator: Engine, pid: int) -> None:
    with operator.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


def test_a_transaction_whose_connection_is_killed_is_run_again_and_takes_effect_once(
    ledger: Ledger, notes: None, operator: Engine
) -> None:
    tries = []

    def work(session: Session) -> None:
        session.execute(text("UPDATE notes SET value = value + 1 WHERE id = 1"))
        tries.append(backend(session))
        if len(tries) < 3:
            kill(operator, tries[-1])
        session.execute(text("UPDATE notes SET value = value + 1 WHERE id = 2"))

    ledger(work)
    assert len(tries) == 3
    assert values(ledger) == [1, 1]


def test_a_connection_that_died_in_the_pool_costs_no_error(ledger: Ledger, notes: None, operator: Engine) -> None:
    kill(operator, ledger(backend))
    assert values(ledger) == [0, 0]


def test_of_two_that_wait_for_each_other_both_succeed(ledger: Ledger, notes: None) -> None:
    met = threading.Barrier(2)
    tries = []

    def crossing(first: int, second: int) -> None:
        def work(session: Session) -> None:
            session.execute(text("UPDATE notes SET value = value + 1 WHERE id = :id"), {"id": first})
            tries.append(first)
            if len(tries) <= 2:
                met.wait(10)
            session.execute(text("UPDATE notes SET value = value + 1 WHERE id = :id"), {"id": second})

        ledger(work)

    together(lambda: crossing(1, 2), lambda: crossing(2, 1))
    assert len(tries) == 3, "there was no deadlock to outlive"
    assert values(ledger) == [2, 2]


def test_a_mistake_is_not_tried_again(ledger: Ledger) -> None:
    tries = []

    def work(session: Session) -> None:
        tries.append(1)
        session.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(ProgrammingError):
        ledger(work)
    assert len(tries) == 1


def test_what_never_passes_is_given_up(ledger: Ledger, notes: None) -> None:
    tries = []

    def work(session: Session) -> None:
        tries.append(1)
        session.execute(text("INSERT INTO notes VALUES (1)"))

    with pytest.raises(DBAPIError):
        ledger(work)
    assert len(tries) == 5


def test_a_database_that_is_not_there_is_an_error_and_not_a_wait(database_url: str) -> None:
    engine = connect(database_url.replace("port=5432", "port=5999"))
    with pytest.raises(DBAPIError):
        transact(engine, backend)


def test_a_database_that_is_not_there_is_waited_for_through_an_outage(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(database_url.replace("port=5432", "port=5999"))
    connecting, tries = LimitedConnection.connect, []

    def counted(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        return connecting(*arguments, **options)

    monkeypatch.setattr(LimitedConnection, "connect", counted)
    monkeypatch.setattr("db.engine.OUTAGE_ATTEMPTS", 3)
    with pytest.raises(DBAPIError):
        transact_through_outage(engine, backend)
    assert len(tries) == 3


def test_a_bulk_copy_whose_connection_is_killed_is_run_again_and_takes_effect_once(
    ledger: Ledger, operator: Engine
) -> None:
    tries = []

    def work(session: Session) -> None:
        tries.append(backend(session))

        statement = "COPY digits (id, key, collection, pixels, sha256, job) FROM STDIN"
        with cursor(session, statement) as driver, driver.copy(statement) as copy:
            for id in range(1, 3000):
                if id == 2500 and len(tries) < 3:
                    kill(operator, tries[-1])
                copy.write_row((id, f"key {id}", "default", bytes(784), bytes(32), uuid.UUID(int=0)))

    ledger(work)
    assert len(tries) == 3
    assert ledger(lambda session: session.execute(text("SELECT count(*) FROM digits")).scalar_one()) == 2999


@pytest.fixture
def pooled(engine: Engine) -> Iterator[Engine]:
    """An engine that is told of a pooler. It stands before none here: case 21 of the chaos suite has one."""
    url = engine.url.update_query_dict({"pooler": "transaction"})
    pooled = connect(url.render_as_string(hide_password=False), statement_limit=7)
    yield pooled
    pooled.dispose()


def test_behind_a_pooler_limits_hold_in_each_transaction_and_leave_nothing_in_the_session(pooled: Engine) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def limits(session: Session) -> list[str]:
        return [session.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    for _ in range(2):
        assert transact(pooled, limits) == ["7s", "10s", "25s"]
    with pooled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names] == ["0", "0", "0"]


def test_behind_a_pooler_a_look_up_sees_the_store_at_one_moment(pooled: Engine) -> None:
    def level(session: Session) -> tuple[str, int]:
        search.begin(session)
        prepared = "SELECT count(*)::int FROM pg_prepared_statements"
        fetch(session, prepared, prepare=True)
        ((found,),) = fetch(session, prepared, prepare=True)
        return session.execute(text("SHOW transaction_isolation")).scalar_one(), found

    assert transact(pooled, level) == ("repeatable read", 0)


def test_behind_a_pooler_no_statement_is_prepared(pooled: Engine) -> None:
    def prepared(session: Session) -> int:
        for value in range(20):
            session.execute(text("SELECT CAST(:value AS int)"), {"value": value})
        return int(session.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())

    assert transact(pooled, prepared) == 0


def test_behind_a_pooler_work_that_takes_long_gets_its_minutes(pooled: Engine) -> None:
    tries = []

    def work(session: Session) -> str:
        tries.append(1)
        limit = str(session.execute(text("SHOW statement_timeout")).scalar_one())
        if len(tries) == 1:
            session.execute(text("SET LOCAL statement_timeout = '10ms'"))
            session.execute(text("SELECT pg_sleep(1)"))
        return limit

    assert transact_long(pooled, work) == "10min"


def test_a_kind_of_pooler_that_is_not_known_is_refused(engine: Engine) -> None:
    url = engine.url.update_query_dict({"pooler": "session"})
    with pytest.raises(ArgumentError, match="pooler=transaction"):
        connect(url.render_as_string(hide_password=False))


def test_an_error_names_no_key_of_a_caller(engine: Engine) -> None:
    def work(session: Session) -> None:
        session.execute(text("SELECT CAST(:key AS integer)"), {"key": "cheque-17/3"})

    with pytest.raises(DBAPIError) as refused:
        transact(engine, work)
    assert "{'key'" not in str(refused.value)
    assert "hidden" in str(refused.value)
