"""Cancelling forgets what nobody else waits for, and nothing that was finished."""

import uuid

import pytest
from sqlalchemy import delete

from db.errors import LeaseLost
from db.queue.cancel import cancel_job
from db.tables import Embedding
from tests.makers import Ledger, claim, counts, embed, finish, item, send, status, stored, vectors


def test_cancelling_fences_the_holder_and_forgets_what_has_no_vector(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("done", 1), job=job, open=True))
    lease = claim(ledger, send(ledger, item("held", 2), job=job, seq=1, open=True))
    send(ledger, item("queued", 3), job=job, seq=2, total=3)
    ledger(cancel_job, job)
    assert lease is not None
    with pytest.raises(LeaseLost):
        finish(ledger, lease)
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 1, "cancelled": 2}
    assert set(stored(ledger)) == set(vectors(ledger, tower)) == {"done"}
    assert status(ledger, job)["state"] == "cancelled"


def test_cancelling_a_job_keeps_what_another_job_waits_for(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    send(ledger, item("shared", 1), item("own", 2), job=first)
    waiting = send(ledger, item("shared", 1), job=second)
    ledger(cancel_job, first)
    assert embed(ledger, waiting) == 1
    assert counts(ledger, second) == {"accepted": 1, "succeeded": 1}
    assert set(stored(ledger)) == set(vectors(ledger, tower)) == {"shared"}


def test_the_last_of_two_cancelled_jobs_forgets_what_both_waited_for(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    for job in (first, second):
        send(ledger, item("shared", 1), job=job)
    for job in (first, second):
        ledger(lambda session, job=job: cancel_job(session, job))
    assert stored(ledger) == {}


def test_cancelling_a_job_keeps_a_finished_jobs_digit_whose_vector_was_lost(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("a", 1)))
    ledger(lambda session: session.execute(delete(Embedding).where(Embedding.tower == tower)))
    job = uuid.uuid4()
    send(ledger, item("a", 1), job=job)
    ledger(cancel_job, job)
    assert set(stored(ledger)) == {"a"}


def test_cancelling_a_finished_job_changes_nothing(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), job=job))
    before = status(ledger, job)
    ledger(cancel_job, job)
    assert status(ledger, job) == before


def test_the_clock_of_a_cancelled_job_stands_still(ledger: Ledger) -> None:
    job = uuid.uuid4()
    send(ledger, item("a", 1), job=job, open=True)
    ledger(cancel_job, job)
    assert status(ledger, job)["seconds"] == status(ledger, job)["seconds"]
