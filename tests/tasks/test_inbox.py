"""Pictures that an application leaves in its own transaction are embedded if that commits, and not else."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgpack
import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from cli.demo import strokes
from db.queue import inbox
from tasks import inbox as tasks_inbox
from tasks.inbox import MOST, empty
from tasks.upkeep import open_inbox
from tests.makers import Ledger, counts, failures, glyph, status, stored
from twinvec_client import InvalidRequest, submit
from twinvec_client.contract.messages import TakeInbox
from worker.runtime import Runtime

PICTURES = {"a": strokes.png(3), "b": strokes.png(7)}


def waiting(ledger: Ledger) -> int:
    return int(ledger(lambda session: session.execute(text("SELECT count(*) FROM inbox")).scalar_one()))


def raw(engine: Engine) -> "psycopg.Connection[Any]":
    return psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False))


def test_pictures_and_an_order_are_stored_together_or_not_at_all(
    engine: Engine, ledger: Ledger, runtime: Runtime
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id integer)"))
    with Session(engine) as session:
        session.execute(text("INSERT INTO orders VALUES (1)"))
        submit(session, PICTURES, collection="lost")
        session.rollback()
    assert waiting(ledger) == 0
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO orders VALUES (2)"))
        job = UUID(submit(session, PICTURES, collection="kept", labels={"a": 3}))
    assert status(ledger, job)["state"] == "receiving"
    assert empty(runtime) == 1
    assert stored(ledger, "kept").keys() == {"a", "b"}
    assert stored(ledger, "lost") == {}
    assert counts(ledger, job)["accepted"] == 2
    assert (waiting(ledger), empty(runtime)) == (0, 0)


@pytest.mark.parametrize("of", ["session", "connection", "psycopg"])
def test_every_kind_of_connection_is_taken(of: str, engine: Engine, ledger: Ledger, runtime: Runtime) -> None:
    kinds: dict[str, Callable[[], Any]] = {
        "session": lambda: Session(engine),
        "connection": engine.connect,
        "psycopg": lambda: raw(engine),
    }
    with kinds[of]() as connection:
        submit(connection, PICTURES)
        connection.commit()
    assert empty(runtime) == 1
    assert stored(ledger).keys() == {"a", "b"}


def test_a_stream_of_several_chunks_is_one_job(engine: Engine, ledger: Ledger, runtime: Runtime) -> None:
    pixels = np.frombuffer(glyph(1), np.uint8).reshape(28, 28)
    with engine.begin() as connection:
        job = submit(connection, ((f"{at:05}", pixels) for at in range(4097)), normalise=False)
    assert waiting(ledger) == 2
    assert empty(runtime) == 2
    assert counts(ledger, UUID(job))["accepted"] == 4097


def test_the_same_key_twice_is_one_job_and_a_bad_picture_costs_itself(
    engine: Engine, ledger: Ledger, runtime: Runtime
) -> None:
    pictures = {**PICTURES, "bad": b"not a picture"}
    jobs = set()
    for _ in range(2):
        with engine.begin() as connection:
            jobs.add(submit(connection, pictures, idempotency_key="once"))
    assert empty(runtime) == 2
    (job,) = jobs
    assert failures(ledger, UUID(job)) == {"bad": "not_a_picture"}
    assert counts(ledger, UUID(job))["accepted"] == 3


def test_a_row_that_is_no_chunk_is_kept_with_the_reason_and_holds_up_nobody(
    engine: Engine, ledger: Ledger, runtime: Runtime
) -> None:
    with engine.begin() as connection:
        for content in (b"", b"\xc1", msgpack.packb({"job": 1}), msgpack.packb([1])):
            row = {"message": content}
            connection.execute(text("INSERT INTO inbox (job, message) VALUES (gen_random_uuid(), :message)"), row)
        submit(connection, PICTURES)
    assert empty(runtime) == 1
    query = text("SELECT refused FROM inbox ORDER BY id")
    kept = ledger(lambda session: session.execute(query).scalars().all())
    assert len(kept) == 4
    assert all(kept)
    assert not ledger(inbox.is_waiting)


def test_a_chunk_whose_worker_died_is_taken_up_again_and_at_last_given_up(
    engine: Engine, ledger: Ledger, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        submit(connection, PICTURES)
    redelivered: list[bool] = []

    def die(*_: Any, **fields: Any) -> None:
        redelivered.append(fields["redelivered"])
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks_inbox, "take_in", die)
    for _ in range(MOST):
        with pytest.raises(KeyboardInterrupt):
            empty(runtime)
        assert empty(runtime) == 0, "another process holds it"
        ledger(lambda session: session.execute(text("UPDATE inbox SET taken_until = now() - interval '1 s'")))
    assert redelivered == [False, *[True] * (MOST - 1)]
    assert empty(runtime) == 0
    assert not ledger(inbox.is_waiting)


def test_the_sweep_lets_a_worker_open_the_inbox(engine: Engine, runtime: Runtime, broker: Any) -> None:
    open_inbox(runtime)
    assert broker.llen(f"twinvec:{TakeInbox.lane}") == 0
    with engine.begin() as connection:
        submit(connection, PICTURES)
    open_inbox(runtime)
    assert broker.llen(f"twinvec:{TakeInbox.lane}") == 1


def test_what_is_no_connection_and_no_schema_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="no session or connection"):
        submit(object(), PICTURES)
    with pytest.raises(InvalidRequest, match="not a plain name"):
        submit(object(), PICTURES, schema='public".x; --')
    with pytest.raises(InvalidRequest, match="collection"):
        submit(object(), PICTURES, collection="")
