"""Jobs whose client has gone: they end, what was accepted is kept and embedded, and a late chunk is welcome."""

import uuid

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from db.queue import callbacks, trainings
from db.queue.abandon import abandon
from db.queue.cancel import cancel_job
from db.queue.intake import accept
from db.queue.retention import Pruned
from tests.makers import (
    Ledger,
    age,
    batch_of,
    chunk,
    claim,
    counts,
    embed,
    finish,
    item,
    prune,
    register,
    send,
    status,
    stored,
    together,
)

DAY = 86_400.0  # seconds


@pytest.fixture
def tower(ledger: Ledger) -> int:
    """A live tower."""
    return register(ledger)


def state(ledger: Ledger, job: uuid.UUID) -> str:
    return str(status(ledger, job)["state"])


def begun(ledger: Ledger, key: str = "a", seed: int = 1) -> uuid.UUID:
    """A job of which one chunk has come, and is embedded."""
    job = uuid.uuid4()
    embed(ledger, batch_of(ledger, item(key, seed), job=job, open=True))
    return job


def may_receive(ledger: Ledger) -> int:
    """How many jobs the sweep looks at when they are old enough."""
    query = text("SELECT count(*) FROM jobs WHERE kind = 'embed' AND receiving")
    return int(ledger(lambda session: session.execute(query).scalar_one()))


def test_a_job_that_gets_no_chunk_for_the_time_ends_as_abandoned(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 0.9)
    assert ledger(abandon, after=DAY) == 0
    assert state(ledger, job) == "receiving"
    age(ledger, 0.2)
    assert ledger(abandon, after=DAY) == 1
    assert state(ledger, job) == "abandoned"
    assert counts(ledger, job) == {"accepted": 1, "succeeded": 1}
    assert list(stored(ledger)) == ["a"]


def test_the_time_counts_from_the_last_chunk(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    send(ledger, item("b", 2), job=job, seq=1, open=True)
    assert ledger(abandon, after=DAY) == 0
    age(ledger, 2)
    assert ledger(abandon, after=DAY) == 1


def test_what_was_accepted_is_embedded_before_it_ends(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(ledger, item("a", 1), job=job, open=True)
    lease = claim(ledger, batch)
    age(ledger, 2)
    ledger(abandon, after=DAY)
    assert state(ledger, job) == "running"
    assert lease is not None
    finish(ledger, lease)
    assert state(ledger, job) == "abandoned"


def test_a_job_that_lacks_a_chunk_before_its_last_is_abandoned(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    embed(ledger, batch_of(ledger, item("c", 3), job=job, seq=2, total=3))
    age(ledger, 2)
    assert ledger(abandon, after=DAY) == 1
    assert (state(ledger, job), status(ledger, job)["total"]) == ("abandoned", 3)


def test_a_job_that_is_complete_never_is(ledger: Ledger, tower: int) -> None:
    whole, overtaken = begun(ledger), uuid.uuid4()
    send(ledger, item("b", 2), job=whole, seq=1, total=2)
    send(ledger, item("d", 4), job=overtaken, seq=1, total=2)
    send(ledger, item("c", 3), job=overtaken, seq=0, open=True)
    ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    age(ledger, 1000)
    assert ledger(abandon, after=DAY) == 0
    assert (state(ledger, whole), state(ledger, overtaken)) == ("running", "queued")


def test_jobs_that_have_ended_are_not_looked_at_again(ledger: Ledger, tower: int) -> None:
    """Of millions that are kept, the index of those that may receive holds few."""
    send(ledger, item("z", 9))
    in_order = begun(ledger)
    send(ledger, item("b", 2), job=in_order, seq=1, total=2)
    assert may_receive(ledger) == 0
    begun(ledger, "e", 5)
    ledger(cancel_job, begun(ledger, "f", 6))
    overtaken = uuid.uuid4()
    send(ledger, item("d", 4), job=overtaken, seq=1, total=2)
    send(ledger, item("c", 3), job=overtaken, seq=0, open=True)
    age(ledger, 2)
    assert ledger(abandon, after=DAY) == 1
    assert may_receive(ledger) == 0


def test_a_late_chunk_goes_on_with_it(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    ledger(abandon, after=DAY)
    batch = batch_of(ledger, item("b", 2), job=job, seq=1, open=True)
    assert state(ledger, job) == "receiving"
    assert ledger(abandon, after=DAY) == 0
    embed(ledger, batch)
    embed(ledger, batch_of(ledger, item("c", 3), job=job, seq=2, total=3))
    assert state(ledger, job) == "finished"
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 3}


def test_one_that_goes_on_may_be_abandoned_again(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    for seq in 1, 2:
        age(ledger, 2)
        assert ledger(abandon, after=DAY) == 1
        embed(ledger, batch_of(ledger, item(f"b{seq}", seq + 1), job=job, seq=seq, open=True))
    assert state(ledger, job) == "receiving"


def test_chunks_that_were_accepted_before_do_not_open_it(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    embed(ledger, batch_of(ledger, item("c", 3), job=job, seq=2, total=3))
    age(ledger, 2)
    ledger(abandon, after=DAY)
    send(ledger, item("a", 1), job=job, open=True)  # again
    send(ledger, item("d", 4), job=job, seq=3, open=True)  # past its end
    assert state(ledger, job) == "abandoned"
    assert counts(ledger, job) == {"accepted": 2, "succeeded": 2}


def test_late_chunks_come_side_by_side(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    ledger(abandon, after=DAY)
    late = [chunk(item(f"b{seq}", seq), job=job, seq=seq, open=True) for seq in range(1, 5)]
    together(*(lambda each=each: ledger(accept, each) for each in late))
    assert counts(ledger, job)["accepted"] == 5
    assert state(ledger, job) == "receiving"


def test_a_chunk_that_is_being_stored_keeps_it_open(ledger: Ledger, engine: Engine, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    with Session(engine) as session:
        accept(session, chunk(item("b", 2), job=job, seq=1, open=True))
        assert ledger(abandon, after=DAY) == 0
        session.commit()
    assert ledger(abandon, after=DAY) == 0
    assert state(ledger, job) == "receiving"


def test_a_cancel_after_that_changes_nothing(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    ledger(abandon, after=DAY)
    ledger(cancel_job, job)
    assert state(ledger, job) == "abandoned"


def test_its_time_runs_to_its_end(ledger: Ledger, tower: int) -> None:
    job = begun(ledger)
    age(ledger, 2)
    ledger(abandon, after=DAY)
    age(ledger, 1)
    assert status(ledger, job)["seconds"] == pytest.approx(2 * DAY, abs=60)


def test_its_callback_is_due_when_it_ends_and_once_more_when_it_went_on(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    first = chunk(item("a", 1), job=job, open=True)
    call = {"task": "told", "queue": "application"}
    batch = ledger(accept, type(first)(**{**vars(first), "callback": call})).batch
    age(ledger, 2)
    ledger(abandon, after=DAY)
    assert ledger(callbacks.due) == []
    embed(ledger, batch)
    assert ledger(callbacks.due) == [job]
    assert ledger(callbacks.take, job)[1].state == "abandoned"
    embed(ledger, batch_of(ledger, item("b", 2), job=job, seq=1, total=2))
    assert ledger(callbacks.take, job)[1].state == "finished"
    assert ledger(callbacks.due) == []


def test_it_is_pruned_like_any_that_has_ended(ledger: Ledger, tower: int) -> None:
    begun(ledger)
    age(ledger, 40)
    ledger(abandon, after=DAY)
    assert prune(ledger) == Pruned()
    age(ledger, 31)
    assert prune(ledger) == Pruned(jobs=1, batches=1)
    assert list(stored(ledger)) == ["a"]
