"""What could not be rescued is listed, nothing of it is deleted, and it can be tried again."""

import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.errors import NotRescuable, UnknownBatch
from db.queue import dead, jobs, trainings
from db.queue.cancel import cancel_job
from db.queue.failures import FailedItem, page
from db.vectors import backfill, towers
from tests.makers import (
    MAX_ATTEMPTS,
    Ledger,
    bury,
    counts,
    die_on,
    embed,
    failures,
    item,
    rescue,
    send,
    states,
    status,
    stored,
    vectors,
)


def test_a_dead_batch_is_listed_with_its_attempts_and_who_held_it_last(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    bury(ledger, batch)
    (listed,) = ledger(dead.page, limit=10)
    assert (listed.id, listed.job, listed.kind, listed.digits) == (batch, str(job), "embed", 1)
    assert (listed.attempts, listed.worker) == (MAX_ATTEMPTS, "worker")
    assert "died 3 times" in listed.message


def test_a_dead_batch_is_embedded_when_it_is_queued_again(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    bury(ledger, batch)
    assert status(ledger, job)["state"] == "finished_with_failures"
    assert ledger(dead.requeue, batch) == (str(job), "embed")
    assert status(ledger, job)["state"] == "queued"
    assert failures(ledger, job) == {}
    embed(ledger, batch)
    assert counts(ledger, job) == {"accepted": 1, "succeeded": 1}
    assert status(ledger, job)["state"] == "finished"
    assert list(vectors(ledger, tower)) == ["a"]
    assert ledger(dead.page, limit=10) == []


@pytest.mark.parametrize("reason", ["damaged", "duplicate_key"])
def test_what_else_failed_under_a_key_of_a_dead_batch_stays_listed_and_counted(
    ledger: Ledger, tower: int, reason: str
) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), item("b", 2), job=job, open=True)
    send(ledger, failures=[FailedItem("a", reason, "another picture", b"sent")], job=job, seq=1, total=3)
    bury_all(ledger, job)
    listed = ledger(page, job, after="", limit=1)
    assert [(row.key, row.reason) for row in listed] == sorted([("a", "poison"), ("a", reason)]), "both on one page"
    assert counts(ledger, job) == {"accepted": 3, "failed": 3}
    for dying in ledger(dead.page, limit=10):
        ledger(dead.requeue, dying.id)
        embed(ledger, dying.id)
    (kept,) = ledger(page, job, after="", limit=10, pictures=True)
    assert (kept.key, kept.reason, kept.picture) == ("a", reason, b"sent")
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 2, "failed": 1}
    assert batch is not None


def bury_all(ledger: Ledger, job: uuid.UUID) -> None:
    """Let every batch of a job crash its worker until each of its digits is given up."""
    while {"queued", "leased"} & set(states(ledger, job)):
        for id in ledger(open_batches, job):
            die_on(ledger, id)
        rescue(ledger)


def open_batches(session: Session, job: uuid.UUID) -> list[int]:
    query = text("SELECT id FROM batches WHERE job = :job AND state IN ('queued', 'leased')")
    return list(session.execute(query, {"job": job}).scalars())


def test_what_was_replaced_meanwhile_stays_a_failure(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    bury(ledger, batch)
    embed(ledger, send(ledger, item("a", 2)))
    ledger(dead.requeue, batch)
    embed(ledger, batch)
    assert counts(ledger, job) == {"accepted": 1, "failed": 1}
    assert failures(ledger, job) == {"a": "poison"}


def test_the_same_picture_sent_again_is_tried_again(ledger: Ledger, tower: int) -> None:
    bury(ledger, send(ledger, item("a", 1)))
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), job=job))
    assert counts(ledger, job) == {"accepted": 1, "succeeded": 1}
    assert list(vectors(ledger, tower)) == ["a"]


def test_buried_digits_are_stored_and_not_due(ledger: Ledger, tower: int) -> None:
    bury(ledger, send(ledger, item("a", 1)))
    assert list(stored(ledger)) == ["a"]
    assert ledger(backfill.queue_due) == 0
    assert ledger(towers.all_of_them)[0].due == 0


def test_a_fill_of_the_live_tower_is_taken_up_again(ledger: Ledger, tower: int) -> None:
    send(ledger, item("a", 1))
    ledger(lambda session: session.execute(text("UPDATE batches SET state = 'done'")))
    assert ledger(backfill.queue_due) == 1
    (fill,) = (job for job in ledger(jobs.latest, limit=9) if job.kind == "backfill")
    batch = ledger(lambda session: session.execute(text("SELECT max(id) FROM batches")).scalar_one())
    bury(ledger, batch)
    assert status(ledger, uuid.UUID(fill.id))["state"] == "failed"
    ledger(dead.requeue, batch)
    embed(ledger, batch)
    ledger(backfill.end_finished)
    assert status(ledger, uuid.UUID(fill.id))["state"] == "finished"
    assert list(vectors(ledger, tower)) == ["a"]


def test_what_nobody_waits_for_any_more_is_not_taken_up_again(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job, open=True)
    bury(ledger, batch)
    ledger(cancel_job, job)
    _, training = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    bury(ledger, training)
    for id in (batch, training):
        with pytest.raises(NotRescuable):
            ledger(lambda session, id=id: dead.requeue(session, id))


def test_only_a_dead_batch_is_queued_again(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    for id in (batch, 10**9):
        with pytest.raises(UnknownBatch, match="twinvec dead"):
            ledger(lambda session, id=id: dead.requeue(session, id))
