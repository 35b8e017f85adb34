"""Several at once: each digit once, every picture counted, and nobody left waiting for a deadlock."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from db.engine import transact_once
from db.errors import LeaseLost, TowersChanged
from db.queue import trainings
from db.queue.cancel import cancel_job
from db.queue.finish import finish as finish_batches
from db.queue.intake import accept
from db.queue.leases import Lease
from db.tables import Batch
from local.servers import Servers
from tests.makers import (
    Ledger,
    chunk,
    claim,
    computed,
    counts,
    embed,
    eventually,
    failures,
    finish,
    glyph,
    item,
    register,
    send,
    status,
    stored,
    together,
    vector,
    vectors,
)


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """Nobody is told to try again: a transaction that fails fails its test."""
    return partial(transact_once, engine)


@pytest.fixture
def deadlocks(servers: Servers) -> Iterator[None]:
    """Fails the test where the database had to break one."""
    log = servers.home / "logs" / "postgres.log"
    before = log.stat().st_size
    yield
    with log.open("rb") as written:
        written.seek(before)
        assert b"deadlock detected" not in written.read()


def shuffled(keys: list[str], seed: int) -> list[str]:
    return [str(key) for key in np.random.default_rng(seed).permutation(keys)]


def embed_all(ledger: Ledger) -> None:
    query = select(Batch.id).where(Batch.state == "queued").order_by(Batch.id)
    while queued := ledger(lambda session: session.execute(query).scalars().all()):
        embed(ledger, queued[0])


def assert_accounted(ledger: Ledger, tower: int, sent: list[uuid.UUID]) -> None:
    """Every picture of every job is embedded, unchanged or a listed failure."""
    for job in sent:
        found = counts(ledger, job)
        assert found.get("succeeded", 0) + found.get("unchanged", 0) + found.get("failed", 0) == found["accepted"]
        assert len(failures(ledger, job)) == found.get("failed", 0)
        assert status(ledger, job)["state"].startswith("finished")
    assert set(vectors(ledger, tower)) == set(stored(ledger))


@pytest.mark.parametrize("round", range(3))
def test_two_submitters_with_the_same_new_keys_store_each_digit_once(
    ledger: Ledger, tower: int, deadlocks: None, round: int
) -> None:
    sent = [uuid.uuid4(), uuid.uuid4()]
    keys = [f"key {number}" for number in range(300)]

    def deliver(at: int) -> None:
        send(ledger, *(item(key, keys.index(key)) for key in shuffled(keys, 10 * round + at)), job=sent[at])

    together(lambda: deliver(0), lambda: deliver(1))
    embed_all(ledger)
    assert stored(ledger) == {key: glyph(number) for number, key in enumerate(keys)}
    assert_accounted(ledger, tower, sent)


def test_the_same_chunk_delivered_to_many_at_once_is_stored_once(ledger: Ledger, tower: int, deadlocks: None) -> None:
    job = uuid.uuid4()
    accepted = together(*(lambda: send(ledger, item("a", 1), item("b", 2), job=job) for _ in range(4)))
    assert sum(batch is not None for batch in accepted) == 1
    embed_all(ledger)
    assert counts(ledger, job) == {"accepted": 2, "succeeded": 2}


def test_the_last_chunk_delivered_to_many_at_once_is_stored_once(ledger: Ledger, tower: int, deadlocks: None) -> None:
    for _ in range(5):
        job = uuid.uuid4()
        send(ledger, item("a", 1), job=job, open=True)
        together(*(lambda job=job: send(ledger, item("b", 2), job=job, seq=1, total=2) for _ in range(4)))
        assert (status(ledger, job)["accepted"], status(ledger, job)["total"]) == (2, 2)


def test_submitters_with_overlapping_shuffled_keys_and_other_pixels_do_not_deadlock(
    ledger: Ledger, tower: int, deadlocks: None
) -> None:
    """Each replaces what the others brought, while a worker embeds."""
    keys = [f"key {number}" for number in range(60)]
    sent = [uuid.uuid4() for _ in range(12)]
    left = threading.Semaphore(0)

    def deliver(worker: int) -> None:
        for at in range(worker, len(sent), 3):
            chosen = shuffled(keys, at)[:40]
            send(ledger, *(item(key, 1000 * at + keys.index(key)) for key in chosen), job=sent[at])
            left.release()

    def work() -> None:
        for _ in sent:
            assert left.acquire(timeout=20)
            embed_all(ledger)

    together(*(lambda worker=worker: deliver(worker) for worker in range(3)), work)
    embed_all(ledger)
    assert_accounted(ledger, tower, sent)
    found = vectors(ledger, tower)
    for key, pixels in stored(ledger).items():
        seeds = [1000 * at + keys.index(key) for at in range(len(sent))]
        seed = next(seed for seed in seeds if glyph(seed) == pixels)
        assert found[key] == pytest.approx(vector(tower, seed)), "a vector of other pixels than its digit's"


@pytest.mark.parametrize("round", range(5))
def test_finish_and_replace_at_once_leave_the_new_pixels_vector(
    ledger: Ledger, tower: int, deadlocks: None, round: int
) -> None:
    old, new = uuid.uuid4(), uuid.uuid4()
    keys = [f"key {number}" for number in range(50)]
    lease = claim(ledger, send(ledger, *(item(key, at) for at, key in enumerate(keys)), job=old))
    assert lease is not None
    ids, found = computed(ledger, lease)
    order = shuffled(keys, round)
    together(
        lambda: ledger(finish_batches, [lease], ids, found, {}),
        lambda: send(ledger, *(item(key, 500 + keys.index(key)) for key in order), job=new),
    )
    embed_all(ledger)
    assert_accounted(ledger, tower, [old, new])
    for at, key in enumerate(keys):
        assert vectors(ledger, tower)[key] == pytest.approx(vector(tower, 500 + at))


@pytest.mark.parametrize("round", range(4))
def test_cancel_replace_and_finish_at_once_lose_nothing_of_the_others(
    ledger: Ledger, tower: int, deadlocks: None, round: int
) -> None:
    cancelled, other, replacing = (uuid.uuid4() for _ in range(3))
    keys = [f"key {number}" for number in range(40)]
    lease = claim(ledger, send(ledger, *(item(key, at) for at, key in enumerate(keys)), job=cancelled))
    send(ledger, *(item(key, at) for at, key in enumerate(keys)), job=other)
    assert lease is not None

    def finish_unless_cancelled() -> None:
        with suppress(LeaseLost):
            finish(ledger, lease)

    together(
        lambda: ledger(cancel_job, cancelled),
        lambda: send(ledger, *(item(key, 900) for key in shuffled(keys[:20], round)), job=replacing),
        finish_unless_cancelled,
    )
    embed_all(ledger)
    assert_accounted(ledger, tower, [other, replacing])
    found = counts(ledger, cancelled)
    assert sum(found.get(name, 0) for name in ("succeeded", "failed", "cancelled")) == 40


def cancel_during(ledger: Ledger, job: uuid.UUID, work: Callable[[Session], object]) -> None:
    """Cancel a job while another transaction has done some work of it, and has not ended: the cancel waits for it."""
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        def worked(session: Session) -> None:
            work(session)
            session.flush()
            inside.set()
            assert go_on.wait(10)

        ledger(worked)

    def cancel() -> None:
        assert inside.wait(10)
        waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        canceller = threading.Thread(target=lambda: ledger(cancel_job, job))
        canceller.start()
        eventually(lambda: ledger(lambda session: session.execute(waits).scalar_one()) > 0, "the cancel waits")
        go_on.set()
        canceller.join(10)

    together(slow, cancel)


def test_a_cancel_waits_for_a_chunk_that_is_being_accepted(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    send(ledger, item("a", 1), job=job, open=True)
    cancel_during(ledger, job, lambda session: accept(session, chunk(item("b", 2), job=job, seq=1)))
    assert counts(ledger, job) == {"accepted": 2, "cancelled": 2}
    assert stored(ledger) == {}


def test_nothing_is_kept_of_a_training_that_is_cancelled_while_it_keeps_what_it_learns_from(ledger: Ledger) -> None:
    job = uuid.uuid4()
    _, batch = ledger(trainings.start, job, recipe="quick", seed=0)
    lease = claim(ledger, batch)
    assert lease is not None
    nothing: dict[str, list[int]] = {"digits": [], "labels": [], "left_out": [], "pairs": []}
    cancel_during(ledger, job, lambda session: trainings.keep_material(session, lease, **nothing, same=[]))
    assert ledger(trainings.material, job) is None


def test_one_batch_claimed_by_many_at_once_is_one_holders(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    leases = together(*(lambda: claim(ledger, batch) for _ in range(4)))
    assert sum(lease is not None for lease in leases) == 1


def test_a_tower_registered_while_batches_finish_misses_no_digit(ledger: Ledger, tower: int) -> None:
    """A finish before the registration is filled, one after it must embed under both."""
    leases = [claim(ledger, send(ledger, item(f"key {number}", number))) for number in range(12)]

    def finish_one(number: int, lease: Lease | None) -> None:
        assert lease is not None
        ids, found = computed(ledger, lease)
        try:
            ledger(finish_batches, [lease], ids, found, {})
        except TowersChanged as change:
            more = {newer: vector(newer, number)[None] for newer in change.missing}
            ledger(finish_batches, [lease], ids, found | more, {})

    def finish_all() -> None:
        for number, lease in enumerate(leases):
            finish_one(number, lease)

    _, newer = together(finish_all, lambda: register(ledger, "newer"))
    embed_all(ledger)
    assert set(vectors(ledger, tower)) == set(vectors(ledger, newer)) == set(stored(ledger))
