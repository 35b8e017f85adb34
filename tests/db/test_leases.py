"""A batch is one holder's at a time, and its effect happens once."""

import uuid
from functools import partial

import numpy as np
import pytest

from db import digits
from db.errors import LeaseLost, TowersChanged
from db.queue import leases
from db.queue.cancel import cancel_job
from db.queue.finish import finish as finish_batches
from db.queue.leases import Lease
from db.tables import Batch
from tests.makers import (
    MAX_ATTEMPTS,
    Ledger,
    claim,
    computed,
    counts,
    die_on,
    embed,
    expire,
    failures,
    finish,
    item,
    picked,
    register,
    rescue,
    row,
    send,
    states,
    status,
    vector,
    vectors,
)


def test_a_claimed_batch_cannot_be_claimed_again(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    assert claim(ledger, batch) is not None
    assert claim(ledger, batch) is None


def test_a_finished_batch_cannot_be_claimed(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    embed(ledger, batch)
    assert claim(ledger, batch) is None


def test_a_batch_that_does_not_exist_cannot_be_claimed(ledger: Ledger, tower: int) -> None:
    assert claim(ledger, 12345) is None


def test_nothing_is_claimed_before_there_is_a_tower(ledger: Ledger) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    assert claim(ledger, batch) is None
    assert status(ledger, job)["state"] == "waiting_for_tower"
    tower = register(ledger)
    embed(ledger, batch)
    assert set(vectors(ledger, tower)) == {"a"}


def test_an_expired_lease_is_another_workers_to_claim(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    claim(ledger, batch, worker="slow")
    expire(ledger, batch)
    lease = claim(ledger, batch, worker="quick")
    assert lease is not None
    assert (lease.attempt, row(ledger, batch).worker) == (2, "quick")


def test_a_queued_batch_can_be_claimed_however_often_it_was_tried(ledger: Ledger, tower: int) -> None:
    """Fewer attempts may be allowed today than when it was queued."""
    batch = send(ledger, item("a", 1))
    ledger(lambda session: session.query(Batch).update({"attempt": MAX_ATTEMPTS + 2}))
    assert claim(ledger, batch) is not None


def test_the_loser_of_an_expired_lease_is_fenced_and_nothing_is_doubled(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), item("b", 2), job=job)
    slow = claim(ledger, batch)
    expire(ledger, batch)
    quick = claim(ledger, batch)
    assert slow is not None
    assert quick is not None
    with pytest.raises(LeaseLost):
        finish(ledger, slow)
    assert finish(ledger, quick) == 2
    with pytest.raises(LeaseLost):
        finish(ledger, slow)
    assert counts(ledger, job) == {"accepted": 2, "succeeded": 2}
    assert len(vectors(ledger, tower)) == 2


def test_an_expired_lease_that_nobody_took_can_still_be_finished(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    lease = claim(ledger, batch)
    expire(ledger, batch)
    assert lease is not None
    assert finish(ledger, lease) == 1


def test_a_renewed_lease_is_not_rescued(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    lease = claim(ledger, batch)
    expire(ledger, batch)
    assert ledger(leases.renew, lease, 60)
    rescue(ledger)
    assert states(ledger, job) == ["leased"]


def test_a_lost_lease_cannot_be_renewed(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    lease = claim(ledger, batch)
    expire(ledger, batch)
    rescue(ledger)
    assert not ledger(leases.renew, lease, 60)
    claim(ledger, batch)
    assert not ledger(leases.renew, lease, 60)


def test_what_is_given_back_can_be_claimed_and_counts_as_no_attempt(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    for _ in range(MAX_ATTEMPTS + 1):
        lease = claim(ledger, batch)
        assert lease is not None
        assert lease.attempt == 1
        ledger(lambda session, lease=lease: leases.give_back(session, lease))
    embed(ledger, batch)


def test_a_loser_cannot_give_the_winners_batch_back(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    slow = claim(ledger, batch)
    expire(ledger, batch)
    quick = claim(ledger, batch)
    assert quick is not None
    ledger(leases.give_back, slow)
    assert finish(ledger, quick) == 1


def test_every_vector_is_computed_from_its_own_digits_pixels(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, *(item(f"key {seed}", seed) for seed in range(40)))
    replacing = send(ledger, item("key 7", 107), item("key 23", 123))
    shuffled = np.random.default_rng(0).permutation(row(ledger, batch).digits).tolist()
    ledger(lambda session: session.query(Batch).filter(Batch.id == batch).update({"digits": shuffled}))
    embed(ledger, replacing)
    assert embed(ledger, batch) == 38
    expected = {f"key {seed}": seed for seed in range(40)} | {"key 7": 107, "key 23": 123}
    found = vectors(ledger, tower)
    assert set(found) == set(expected)
    for key, seed in expected.items():
        assert found[key] == pytest.approx(vector(tower, seed))


def test_a_digit_replaced_between_reading_and_finishing_gets_no_old_vector(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    lease = claim(ledger, send(ledger, item("a", 1), item("b", 2), item("c", 3), job=job))
    assert lease is not None
    ids, found = computed(ledger, lease)
    batch = send(ledger, item("b", 4))
    assert ledger(finish_batches, [lease], ids, found, {}) == 2
    embed(ledger, batch)
    for key, seed in {"a": 1, "b": 4, "c": 3}.items():
        assert vectors(ledger, tower)[key] == pytest.approx(vector(tower, seed))
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 2, "failed": 1}
    assert failures(ledger, job) == {"b": "superseded"}


def test_a_tower_that_came_up_since_the_claim_must_be_embedded_under_as_well(ledger: Ledger, tower: int) -> None:
    lease = claim(ledger, send(ledger, item("a", 1)))
    assert lease is not None
    newer = register(ledger, "newer")
    with pytest.raises(TowersChanged) as changed:
        finish(ledger, lease)
    assert changed.value.missing == {newer}
    assert vectors(ledger, tower) == {}, "a refused finish has written something"


def test_a_digit_that_two_jobs_wait_for_is_embedded_once(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    sent = [send(ledger, item("a", 1), job=job) for job in (first, second)]
    for batch in sent:
        embed(ledger, batch)
    assert counts(ledger, first) == counts(ledger, second) == {"accepted": 1, "succeeded": 1}
    assert len(vectors(ledger, tower)) == 1


def test_seconds_by_stage_add_to_those_of_intake(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    ledger(lambda session: session.query(Batch).update({"seconds": {"decode": 0.25}}))
    embed(ledger, batch)
    seconds = dict(row(ledger, batch).seconds or {})
    assert seconds.pop("wait") > 0
    assert seconds == {"decode": 0.25, "tower": 0.5}


@pytest.mark.parametrize("kinds", [("train",), ("backfill", "train")])
def test_a_batch_of_another_kind_is_not_to_be_had(ledger: Ledger, tower: int, kinds: tuple[str, ...]) -> None:
    batch = send(ledger, item("a", 1)) or 0
    attempt = partial(leases.claim, batch=batch, worker="worker", lease=60, max_attempts=MAX_ATTEMPTS)
    assert ledger(partial(attempt, kinds=kinds)) is None
    assert ledger(partial(attempt, kinds=("embed",))) is not None


def small_ones(ledger: Ledger, lease: Lease) -> list[Lease]:
    more: list[Lease] = ledger(leases.claim_more, lease, worker="worker", lease=60)
    return more


def test_small_batches_of_many_jobs_are_claimed_and_finished_together(ledger: Ledger, tower: int) -> None:
    jobs_of = [uuid.uuid4() for _ in range(5)]
    sent = [send(ledger, item(f"a{at}", at), item(f"b{at}", 9 + at), job=job) for at, job in enumerate(jobs_of)]
    first = claim(ledger, sent[2])
    assert first is not None
    leases = [first, *small_ones(ledger, first)]
    assert sorted(lease.batch for lease in leases) == sent
    ids, pixels, _ = ledger(digits.pixels_of, [id for lease in leases for id in lease.digits])
    found = {tower: picked(tower, pixels)}
    assert ledger(finish_batches, leases, ids, found, {"tower": 0.5}) == 10
    for at, job in enumerate(jobs_of):
        assert counts(ledger, job) == {"accepted": 2, "succeeded": 2}
        assert vectors(ledger, tower)[f"b{at}"] == pytest.approx(vector(tower, 9 + at))


def test_what_is_large_suspect_or_held_is_not_claimed_with_others(ledger: Ledger, tower: int) -> None:
    large = send(ledger, *(item(f"key {seed}", seed) for seed in range(leases.SMALL + 1)))
    suspect = send(ledger, item("suspect", 50))
    die_on(ledger, suspect)
    rescue(ledger)
    held = claim(ledger, send(ledger, item("held", 51)))
    assert held is not None
    assert small_ones(ledger, held) == []
    assert {large, suspect} == {batch for batch in (large, suspect) if claim(ledger, batch)}


def test_a_lost_lease_among_several_undoes_them_all(ledger: Ledger, tower: int) -> None:
    job, other = uuid.uuid4(), uuid.uuid4()
    sent = send(ledger, item("a", 1), job=job)
    send(ledger, item("b", 2), job=other)
    first = claim(ledger, sent)
    assert first is not None
    leases = [first, *small_ones(ledger, first)]
    ledger(cancel_job, other)
    ids, pixels, _ = ledger(digits.pixels_of, [id for lease in leases for id in lease.digits])
    with pytest.raises(LeaseLost):
        ledger(finish_batches, leases, ids, {tower: picked(tower, pixels)}, {})
    assert vectors(ledger, tower) == {}
    assert states(ledger, job) == ["leased"]
