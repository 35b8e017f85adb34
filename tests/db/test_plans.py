"""What is asked again and again beside bulk work takes the same time however much is stored: it reads by an index."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db import digits
from db.queue import intake, jobs, leases, turns
from db.states import JobKind
from tests.makers import Ledger, claim, item, register, send

MANY = 5_000  # rows, of a job of their own: too many for the planner to read them all

FILL = """
    INSERT INTO jobs (id, kind, collection, parameters) VALUES (gen_random_uuid(), 'embed', 'bulk', '{}');
    INSERT INTO digits (key, collection, pixels, sha256, job, seq, doubtful)
        SELECT n, 'bulk', decode(repeat('00', 784), 'hex'), decode(repeat('00', 32), 'hex'), jobs.id, 0, false
        FROM generate_series(1, :many) AS n, jobs WHERE jobs.collection = 'bulk';
    INSERT INTO batches (job, seq, state, digits)
        SELECT jobs.id, n, CASE WHEN n % 50 = 0 THEN 'queued' ELSE 'done' END, ARRAY[n]
        FROM generate_series(1, :many) AS n, jobs WHERE jobs.collection = 'bulk';
"""
READ = "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname IN ('digits', 'batches')"

ASKED: dict[str, Callable[[Ledger, int, Any], object]] = {
    "the status of a job": lambda ledger, _, job: ledger(jobs.status, job),
    "its doubtful digits": lambda ledger, _, job: ledger(digits.doubtful_of, job, after="", limit=100),
    "what was accepted of it": lambda ledger, _, job: ledger(intake.received, job, after=-1),
    "how large the backlog is": lambda ledger, *_: ledger(intake.backlog),
    "whose turn it is": lambda ledger, *_: ledger(turns.oldest, JobKind.EMBED),
    "a claim": lambda ledger, batch, _: claim(ledger, batch),
    "other small batches": lambda ledger, batch, _: ledger(
        leases.claim_more, claim(ledger, batch), worker="worker", lease=60
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_again_and_again_reads_by_an_index(ledger: Ledger, engine: Engine, name: str) -> None:
    register(ledger)
    batch = send(ledger, item("a", 1), item("b", 2))
    assert batch is not None
    with engine.begin() as connection:
        for statement in FILL.split(";")[:-1]:
            connection.execute(text(statement), {"many": MANY} if ":many" in statement else {})
        connection.execute(text("ANALYZE"))
        job = connection.execute(text("SELECT job FROM batches WHERE id = :id"), {"id": batch}).scalar_one()

    def read() -> dict[str, int]:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_stat_clear_snapshot()"))
            return {row.relname: row.seq_tup_read for row in connection.execute(text(READ))}

    def flushed() -> None:
        ledger(lambda session: session.execute(text("SELECT pg_stat_force_next_flush()")))

    flushed()
    before = read()
    ASKED[name](ledger, batch, job)
    flushed()
    assert read() == before
