"""What is pruned has ended and is called back, has been kept for its time, and guards no digit; all else stays."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from db.engine import transact
from db.errors import LeaseLost, UnknownBatch, UnknownJob
from db.queue import callbacks, dead, intake, jobs, retention, trainings
from db.queue.cancel import cancel_job
from db.queue.failures import FailedItem
from db.queue.failures import page as failures_page
from db.queue.rescue import rescue
from db.queue.retention import LOOK, START, Keep, Pruned, prune_jobs, prune_pictures
from db.tables import Tower
from db.vectors import backfill, lifecycle, towers
from db.vectors.retention import prune_files
from tests.makers import (
    Ledger,
    age,
    batch_of,
    bury,
    chunk,
    claim,
    counts,
    embed,
    failures,
    finish,
    item,
    promote,
    prune,
    register,
    send,
    status,
    stored,
    together,
    tower_statuses,
    vectors,
)

CALLBACK = {"task": "app.done", "queue": "app"}


def left(ledger: Ledger) -> dict[str, int]:
    """How many rows stand in each table; zeros are left out."""
    found = {
        table: ledger(lambda session, table=table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
        for table in ("jobs", "batches", "failures")
    }
    return {table: number for table, number in found.items() if number}


def refused(key: str, picture: bytes | None = b"half a file") -> FailedItem:
    return FailedItem(key, "damaged", "it ends in the middle", picture)


def done(ledger: Ledger, key: str = "a", **fields: Any) -> uuid.UUID:
    """A job that has ended, with one picture embedded and one refused."""
    job = uuid.uuid4()
    embed(ledger, batch_of(ledger, item(key, 1), job=job, failures=[refused("bad")], **fields))
    return job


def exists(ledger: Ledger, job: uuid.UUID) -> bool:
    try:
        status(ledger, job)
    except UnknownJob:
        return False
    return True


def test_an_ended_job_goes_with_all_that_is_its_own_and_its_digits_stay(ledger: Ledger, tower: int) -> None:
    done(ledger)
    age(ledger, 29)
    assert prune(ledger) == Pruned()
    age(ledger, 2)
    assert prune(ledger) == Pruned(jobs=1, batches=1, failures=1)
    assert left(ledger) == {}
    assert list(stored(ledger)) == list(vectors(ledger, tower)) == ["a"]
    assert ledger(backfill.queue_due) == 0


def test_the_time_counts_from_the_end_not_from_the_start(ledger: Ledger, tower: int) -> None:
    batch = batch_of(ledger, item("a", 1), job=(job := uuid.uuid4()))
    age(ledger, 40)
    embed(ledger, batch)
    assert prune(ledger) == Pruned()
    age(ledger, 31)
    assert prune(ledger).jobs == 1
    assert not exists(ledger, job)


def test_a_worker_that_comes_back_after_its_job_is_gone_has_lost_its_lease(ledger: Ledger, tower: int) -> None:
    lease = claim(ledger, batch_of(ledger, item("a", 1), job=(job := uuid.uuid4())))
    assert lease is not None
    ledger(cancel_job, job)
    age(ledger, 31)
    assert prune(ledger).jobs == 1
    with pytest.raises(LeaseLost):
        finish(ledger, lease)


def test_settings_say_how_long(ledger: Ledger, tower: int) -> None:
    done(ledger)
    age(ledger, 5)
    assert prune(ledger, jobs=6) == Pruned()
    assert prune(ledger, jobs=4).jobs == 1


def receiving(ledger: Ledger) -> None:
    embed(ledger, batch_of(ledger, item("a", 1), open=True))


def queued(ledger: Ledger) -> None:
    batch_of(ledger, item("a", 1))


def leased(ledger: Ledger) -> None:
    claim(ledger, batch_of(ledger, item("a", 1)))


def half_done(ledger: Ledger) -> None:
    job = uuid.uuid4()
    embed(ledger, batch_of(ledger, item("a", 1), job=job, open=True))
    batch_of(ledger, item("b", 2), job=job, seq=1, total=2)


def training(ledger: Ledger) -> None:
    ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)


def backfilling(ledger: Ledger) -> None:
    """Of the candidate; by `queue_missing`."""
    embed(ledger, batch_of(ledger, item("a", 1)))
    ledger(lambda session: session.execute(text("DELETE FROM batches")))
    ledger(lambda session: session.execute(text("DELETE FROM jobs")))
    register(ledger, "second")


def requeued(ledger: Ledger) -> None:
    batch = batch_of(ledger, item("a", 1))
    bury(ledger, batch)
    ledger(dead.requeue, batch)


def failed_with_work_left(ledger: Ledger) -> None:
    """A backfill ends with its first dead batch; another of its batches is still claimed."""
    backfilling(ledger)
    query = "INSERT INTO batches (job, state, digits) SELECT job, 'queued', digits FROM batches RETURNING id"
    other = ledger(lambda session: session.execute(text(query)).scalar_one())
    claim(ledger, other)
    bury(ledger, other - 1)
    claim(ledger, other)
    ledger(lifecycle.reject, _second(ledger), "for the test")
    ledger(lambda session: session.execute(text("UPDATE batches SET state = 'queued' WHERE state = 'cancelled'")))


def _second(ledger: Ledger) -> int:
    return max(tower_statuses(ledger))


@pytest.mark.parametrize(
    "what", [receiving, queued, leased, half_done, training, backfilling, requeued, failed_with_work_left]
)
def test_nothing_open_is_pruned_however_old(ledger: Ledger, tower: int, what: Callable[[Ledger], None]) -> None:
    what(ledger)
    age(ledger, 1000)
    before = left(ledger)
    assert before["jobs"] == 1
    everything = Keep(jobs=0.01, dead=0.01, callbacks=0.01)
    last = ledger(lambda session: session.execute(text("SELECT max(created_at) FROM jobs")).scalar_one())
    assert prune(ledger, everything, surplus=last) == Pruned()
    assert left(ledger) == before


@pytest.mark.parametrize("end", ["cancelled", "training ended", "training cancelled", "backfill ended"])
def test_jobs_of_every_kind_and_end_go(ledger: Ledger, tower: int, end: str) -> None:
    job = uuid.uuid4()
    if end == "cancelled":
        batch_of(ledger, item("a", 1), job=job, open=True)
        ledger(cancel_job, job)
    elif end == "backfill ended":
        send(ledger, item("a", 1))
        ledger(lambda session: session.execute(text("TRUNCATE jobs CASCADE")))
        ledger(backfill.queue_due)
        embed(ledger, ledger(lambda session: session.execute(text("SELECT id FROM batches")).scalar_one()))
        ledger(backfill.end_finished)
    else:
        ledger(trainings.start, job, recipe="notebook", seed=0)
        if end == "training ended":
            ledger(lambda session: session.execute(text("UPDATE batches SET state = 'done'")))
            ledger(trainings.end, job, outcome={})
        else:
            ledger(cancel_job, job)
    assert prune(ledger) == Pruned()
    age(ledger, 31)
    assert prune(ledger).jobs == 1
    assert left(ledger) == {}


def test_a_job_whose_callback_is_due_stays_until_it_is_called_or_given_up(ledger: Ledger, tower: int) -> None:
    jobs = [uuid.uuid4(), uuid.uuid4()]
    for job in jobs:
        submission = chunk(item("a", 1), job=job)
        batch = ledger(intake.accept, intake.Submission(**{**vars(submission), "callback": CALLBACK})).batch
        if batch is not None:
            embed(ledger, batch)
    age(ledger, 31)
    assert prune(ledger) == Pruned()
    assert ledger(callbacks.take, jobs[0]) is not None
    assert prune(ledger) == Pruned(jobs=1, batches=1)
    assert [exists(ledger, job) for job in jobs] == [False, True]
    assert ledger(callbacks.due) == [jobs[1]]
    age(ledger, 60)
    assert prune(ledger) == Pruned(jobs=1, batches=1, uncalled=1)


def test_a_dead_batch_is_kept_longer_and_for_good_while_it_guards_a_digit(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    bury(ledger, batch_of(ledger, item("a", 1), job=job))
    age(ledger, 400)
    assert prune(ledger) == Pruned(), "backfill would try the digit again"
    assert ledger(backfill.queue_due) == 0
    embed(ledger, batch_of(ledger, item("a", 2)))  # other pixels: nothing is left to guard
    assert prune(ledger) == Pruned(jobs=1, batches=1, failures=1)
    assert not exists(ledger, job)


def test_a_dead_batch_that_guards_nothing_goes_when_its_time_is_over(ledger: Ledger, tower: int) -> None:
    _, batch = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    bury(ledger, batch)
    age(ledger, 89)
    assert prune(ledger) == Pruned()
    assert prune(ledger, dead=80) == Pruned(jobs=1, batches=1)


def test_a_dead_batch_of_a_backfill_guards_digits_under_its_own_tower_alone(ledger: Ledger, tower: int) -> None:
    embed(ledger, batch_of(ledger, item("a", 1)))
    register(ledger, "second")
    bury(ledger, ledger(lambda session: session.execute(text("SELECT max(id) FROM batches")).scalar_one()))
    age(ledger, 100)
    assert prune(ledger) == Pruned(jobs=1, batches=1), "the embed job alone: the backfill decides on the candidate"
    assert ledger(lifecycle.open_judging).rejected_because is not None
    assert prune(ledger) == Pruned(jobs=1, batches=1)
    assert ledger(backfill.queue_due) == 0


def test_beyond_the_number_the_oldest_go_but_not_within_an_hour_of_their_end(ledger: Ledger, tower: int) -> None:
    jobs = [done(ledger, key) for key in "abcd"]
    assert ledger(retention.surplus, 4) is None
    since = ledger(retention.surplus, 2)
    assert prune(ledger, surplus=since) == Pruned()
    age(ledger, 0.5)
    assert prune(ledger, surplus=ledger(retention.surplus, 2)).jobs == 2
    assert [exists(ledger, job) for job in jobs] == [False, False, True, True]


def test_far_below_the_number_jobs_are_not_counted(ledger: Ledger, tower: int) -> None:
    for key in "abcd":
        done(ledger, key)
    ledger(lambda session: session.execute(text("UPDATE pg_class SET reltuples = 1 WHERE oid = 'jobs'::regclass")))
    assert ledger(retention.surplus, 2) is None


def test_the_same_idempotency_key_is_a_new_job_afterwards(ledger: Ledger, tower: int) -> None:
    job = done(ledger)
    age(ledger, 31)
    prune(ledger)
    assert send(ledger, item("a", 1), job=job) is None, "it is stored and embedded"
    assert counts(ledger, job) == {"accepted": 1, "unchanged": 1}
    assert status(ledger, job)["state"] == "finished"


def test_many_jobs_go_in_small_transactions_and_none_is_left_in_pieces(ledger: Ledger, tower: int) -> None:
    for number in range(7):
        job = uuid.uuid4()
        for seq in range(3):
            fields = {"open": True} if seq < 2 else {"total": 3}
            send(ledger, failures=[refused(f"{number} {seq}")], job=job, seq=seq, **fields)
    age(ledger, 31)
    after, transactions, total = START, 0, Pruned()
    while after is not None:
        gone, after = ledger(prune_jobs, Keep(), after=after, rows=4)
        assert max(gone.batches, gone.failures) <= 4
        for each in ledger(jobs.latest, limit=9):
            assert (each.state, each.accepted, each.failed) == ("finished_with_failures", 3, 3)
        transactions, total = transactions + 1, total + gone
    assert total == Pruned(jobs=7, batches=21, failures=21)
    assert transactions > 6


def half_pruned(ledger: Ledger) -> tuple[uuid.UUID, int]:
    """A job of eight batches, some of which are deleted; and a dead batch that is left of it."""
    job = uuid.uuid4()
    batch = batch_of(ledger, item("a", 1), job=job, open=True)
    for seq in range(1, 8):
        send(ledger, failures=[refused(f"{seq}")], job=job, seq=seq, total=8, open=seq < 7)
    bury(ledger, batch)
    embed(ledger, batch_of(ledger, item("a", 2), collection="default"))
    age(ledger, 100)
    after: Any = START
    while left(ledger)["batches"] == 9:
        _, after = ledger(prune_jobs, Keep(), after=after, rows=3)
    return job, batch


def test_a_job_with_many_batches_is_unknown_from_the_first_that_goes(ledger: Ledger, tower: int) -> None:
    job, batch = half_pruned(ledger)
    assert 1 < left(ledger)["batches"] < 9
    assert not exists(ledger, job)
    assert str(job) not in [each.id for each in ledger(jobs.latest, limit=9)]
    assert ledger(dead.page, limit=9) == []
    for refusal, call, id in (UnknownJob, cancel_job, job), (UnknownBatch, dead.requeue, batch):
        with pytest.raises(refusal):
            ledger(call, id)
    assert ledger(intake.received, job, after=-1).chunks == []
    assert ledger(intake.accepted_as, job, 0) is None
    assert ledger(intake.items_before, job, 9) == 0
    prune(ledger, rows=3)
    assert left(ledger) == {}


def test_a_chunk_for_a_job_of_which_half_is_deleted_opens_it_anew(ledger: Ledger, tower: int) -> None:
    job, _ = half_pruned(ledger)
    batch = send(ledger, item("b", 5), job=job)
    assert counts(ledger, job) == {"accepted": 1}
    assert failures(ledger, job) == {}
    embed(ledger, batch)
    assert status(ledger, job)["state"] == "finished"


def test_the_parts_of_a_split_batch_go_before_it(ledger: Ledger, tower: int) -> None:
    """Batches are deleted one by one; one that another names as its parent could not be."""
    embed(ledger, batch_of(ledger, item("a", 1)))
    row = "INSERT INTO batches (job, parent, state, digits, finished_at) SELECT job, id, 'done', digits, now()"
    for _ in range(2):  # parts, and parts of these: as many as there were batches
        ledger(lambda session: session.execute(text(f"{row} FROM batches")))
    age(ledger, 31)
    after: Any = START
    for number in (3, 2, 1, 0):
        gone, after = ledger(prune_jobs, Keep(), after=after, rows=1)
        assert (gone.batches, left(ledger).get("batches", 0)) == (1, number)
    prune(ledger)
    assert left(ledger) == {}


def test_a_pass_goes_on_past_what_has_to_stay(ledger: Ledger, tower: int) -> None:
    for number in range(3):
        embed(ledger, batch_of(ledger, item(f"open {number}", number), open=True))
    job = done(ledger)
    age(ledger, 31)
    assert prune(ledger, rows=1).jobs == 1
    assert not exists(ledger, job)


def test_a_pass_that_was_broken_off_is_done_again_from_the_start(ledger: Ledger, tower: int) -> None:
    for key in "abc":
        done(ledger, key)
    age(ledger, 31)

    class Killed(Exception):
        pass

    def killed(session: Any) -> None:
        assert prune_jobs(session, Keep(), rows=1)[0].failures == 1
        raise Killed

    with pytest.raises(Killed):
        ledger(killed)
    assert left(ledger) == {"jobs": 3, "batches": 3, "failures": 3}
    ledger(prune_jobs, Keep(), rows=1)
    assert prune(ledger, rows=2).jobs == 3
    assert left(ledger) == {}


def test_of_two_at_once_each_passes_by_what_the_other_has_locked(engine: Engine, ledger: Ledger, tower: int) -> None:
    for key in "ab":
        done(ledger, key)
    age(ledger, 31)
    with engine.begin() as other:
        other.execute(text("SELECT id FROM jobs ORDER BY created_at LIMIT 1 FOR UPDATE"))
        assert prune(ledger).jobs == 1
    assert prune(ledger).jobs == 1
    for key in "cdefghij":
        done(ledger, key)
    age(ledger, 31)
    gone = together(*[lambda: prune(ledger, rows=2)] * 2)
    assert prune(ledger).jobs + sum(each.jobs for each in gone) == 8
    assert left(ledger) == {}


def test_a_batch_that_is_requeued_meanwhile_keeps_its_job(engine: Engine, ledger: Ledger, tower: int) -> None:
    """Found over, then requeued before it is locked: it is judged again."""
    job = uuid.uuid4()
    batch = batch_of(ledger, item("a", 1), job=job)
    bury(ledger, batch)
    age(ledger, 400)
    embed(ledger, batch_of(ledger, item("a", 2)))
    judge, judged = retention._over, threading.Event()

    def judged_once(*arguments: Any) -> Any:
        found = judge(*arguments)
        if not judged.is_set():
            judged.set()
            assert job in found
            transact(engine, dead.requeue, batch)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "_over", judged_once)
        assert prune(ledger) == Pruned()
    assert status(ledger, job)["state"] == "queued"
    lease = claim(ledger, batch)
    assert lease is not None
    finish(ledger, lease)


def test_a_chunk_that_waits_for_a_job_that_is_being_pruned_opens_it_anew(
    engine: Engine, ledger: Ledger, tower: int
) -> None:
    job = done(ledger)
    age(ledger, 31)
    deleted, sending = threading.Event(), threading.Event()

    def delete() -> None:
        with engine.begin() as connection:
            for table in ("failures", "batches"):
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("DELETE FROM jobs"))
            deleted.set()
            assert sending.wait(10)
            waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
                while not other.execute(waiting).scalar_one():
                    pass

    def sent() -> None:
        assert deleted.wait(10)
        sending.set()
        send(ledger, item("b", 2), job=job)

    together(delete, sent)
    assert counts(ledger, job) == {"accepted": 1}


def test_pictures_of_failures_go_by_their_own_age_and_the_rest_stays(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    send(ledger, failures=[refused("a"), refused("b")], job=job, open=True)
    age(ledger, 31)
    send(ledger, failures=[refused("c"), refused("d", None)], job=job, seq=1, total=4)
    assert ledger(prune_pictures, Keep(pictures=40), rows=10) == 0
    assert [ledger(prune_pictures, Keep(), rows=1) for _ in range(3)] == [1, 1, 0]
    kept = ledger(failures_page, job, after="", limit=9, pictures=True)
    assert {each.key: each.picture for each in kept} == {"a": None, "b": None, "c": b"half a file", "d": None}
    assert {each.reason for each in kept} == {"damaged"}


def test_a_job_keeps_no_more_bytes_of_failures_than_it_may(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()

    def sent(seq: int, *sizes: int) -> None:
        listed = [refused(f"{seq} {at}", bytes(size)) for at, size in enumerate(sizes)]
        submission = chunk(failures=listed, job=job, seq=seq, open=True)
        ledger(intake.accept, intake.Submission(**{**vars(submission), "kept_bytes": 100}))

    sent(0, 60, 50)
    sent(1, 40, 1)
    kept = {each.key: each.picture for each in ledger(failures_page, job, after="", limit=9, pictures=True)}
    assert {key: picture and len(picture) for key, picture in kept.items()} == {
        "0 0": 60, "0 1": None, "1 0": 40, "1 1": None,
    }  # fmt: skip
    assert failures(ledger, job) == dict.fromkeys(kept, "damaged")
    assert counts(ledger, job) == {"accepted": 4, "failed": 4}


def test_a_poisoned_digit_past_the_limit_is_listed_without_its_pixels(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(ledger, item("a", 1), job=job)
    for _ in range(3):
        claim(ledger, batch, lease=-1)
        ledger(rescue, max_attempts=3, max_errors=3, kept_bytes=783)
    (listed,) = ledger(failures_page, job, after="", limit=9, pictures=True)
    assert (listed.reason, listed.picture) == ("poison", None)


def file_of(ledger: Ledger, tower: int) -> bytes | None:
    found: bytes | None = ledger(
        lambda session: session.execute(select(Tower.file).where(Tower.id == tower)).scalar_one()
    )
    return found


def test_files_of_retired_and_rejected_towers_go_and_their_figures_stay(ledger: Ledger, tower: int) -> None:
    ids = [tower]
    for name in ("second", "third"):
        ids.append(register(ledger, name))
        promote(ledger)
    rejected = register(ledger, "rejected")
    ledger(lifecycle.reject, rejected, "for the test")
    candidate = register(ledger, "candidate")
    assert list(tower_statuses(ledger).values()) == ["candidate", "rejected", "live", "previous", "retired"]
    age(ledger, 29)
    assert ledger(prune_files, days=30) == []
    age(ledger, 2)
    assert ledger(prune_files, days=30) == [tower, rejected]
    assert ledger(prune_files, days=30) == []
    assert [file_of(ledger, id) is None for id in (*ids, rejected, candidate)] == [True, False, False, True, False]
    assert all(standing.metrics for standing in ledger(towers.all_of_them))


def test_a_tower_that_was_live_for_long_keeps_its_file_for_its_time(ledger: Ledger, tower: int) -> None:
    age(ledger, 1000)
    for name in ("second", "third"):
        register(ledger, name)
        promote(ledger)
    assert tower_statuses(ledger)[tower] == "retired"
    assert ledger(prune_files, days=30) == []


def test_weights_that_are_registered_again_bring_their_file_back(ledger: Ledger, tower: int) -> None:
    second = register(ledger, "second")
    ledger(lifecycle.reject, second, "for the test")
    age(ledger, 31)
    assert ledger(prune_files, days=30) == [second]
    assert register(ledger, "second") == second
    assert file_of(ledger, second) == b"second"
    age(ledger, 31)
    assert ledger(prune_files, days=30) == []


def test_what_should_have_gone_long_ago_is_counted(ledger: Ledger, tower: int) -> None:
    done(ledger)
    age(ledger, 31.5)
    assert ledger(retention.overdue, Keep(), by=1) == 1
    assert ledger(retention.overdue, Keep(), by=2) == 0
    prune(ledger)
    assert ledger(retention.overdue, Keep(), by=1) == 0


def test_more_jobs_than_are_looked_at_at_once_go_in_one_pass(ledger: Ledger, tower: int) -> None:
    query = """
        WITH made AS (
            INSERT INTO jobs (id, kind, parameters, total, chunks, created_at)
            SELECT gen_random_uuid(), 'embed', '{}', 1, 1, now() - interval '50 days' FROM generate_series(1, :count)
            RETURNING id
        )
        INSERT INTO batches (job, seq, state, digits, items, created_at, finished_at)
        SELECT id, 0, 'done', '{}', 1, now() - interval '50 days', now() - interval '49 days' FROM made
    """
    ledger(lambda session: session.execute(text(query), {"count": 2 * LOOK + 1}))
    assert prune(ledger, rows=10 * LOOK) == Pruned(jobs=2 * LOOK + 1, batches=2 * LOOK + 1)
