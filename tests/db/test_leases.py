"""A batch is one holder's at a time, its effect happens once, and nothing in it is lost between holders."""

import uuid
from functools import partial

import numpy as np
import pytest
from sqlalchemy import delete, select

from db import digits
from db.errors import LeaseLost, TowersChanged
from db.queue import intake, leases, trainings
from db.queue.cancel import cancel_job
from db.queue.failures import FailedItem
from db.queue.finish import finish as finish_batches
from db.queue.leases import Lease
from db.queue.rescue import take_due
from db.states import JobKind
from db.tables import Batch, Digit, Embedding, Failure
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
    glyph,
    item,
    picked,
    register,
    rescue,
    row,
    send,
    states,
    status,
    stored,
    vector,
    vectors,
)


@pytest.fixture
def tower(ledger: Ledger) -> int:
    """A live tower."""
    return register(ledger)


def to_ring(ledger: Ledger, *, republish_after: float = 30, in_flight: int = 64) -> list[tuple[int, str]]:
    return [
        rung
        for kind in JobKind
        for rung in ledger(partial(take_due, kind=kind, republish_after=republish_after, in_flight=in_flight))
    ]


def unring(ledger: Ledger) -> None:
    """As if no bell had been rung for any batch."""
    ledger(lambda session: session.query(Batch).update({"published_at": None}))


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


# --- cancel ---


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


# --- the sweep ---


def test_an_expired_lease_is_queued_again_and_its_holder_fenced(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job)
    lease = claim(ledger, batch)
    expire(ledger, batch)
    rescue(ledger)
    assert states(ledger, job) == ["queued"]
    assert lease is not None
    with pytest.raises(LeaseLost):
        finish(ledger, lease)
    assert embed(ledger, batch) == 1


def test_a_lease_that_has_not_run_out_is_left_alone(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    claim(ledger, send(ledger, item("a", 1), job=job))
    rescue(ledger)
    assert states(ledger, job) == ["leased"]


@pytest.mark.parametrize("culprits", [{5}, {0, 12}, {3, 4, 11}], ids=str)
def test_poison_is_split_down_to_the_culprits_and_buried_with_its_pixels(
    ledger: Ledger, tower: int, culprits: set[int]
) -> None:
    """Whoever holds a culprit dies."""
    job = uuid.uuid4()
    send(ledger, *(item(f"key {seed}", seed) for seed in range(13)), job=job)
    poison = {glyph(seed) for seed in culprits}
    deaths = 0
    while open_batches := ledger(
        lambda session: session.execute(select(Batch).where(Batch.state == "queued").order_by(Batch.id)).scalars().all()
    ):
        for batch in open_batches:
            pixels = {stored(ledger)[key] for key in keys_of(ledger, batch)}
            if pixels & poison:
                die_on(ledger, batch.id)
                deaths += 1
            else:
                embed(ledger, batch.id)
        rescue(ledger)
    assert counts(ledger, job) == {"accepted": 13, "succeeded": 13 - len(culprits), "failed": len(culprits)}
    assert failures(ledger, job) == {f"key {seed}": "poison" for seed in culprits}
    kept = ledger(lambda session: session.execute(select(Failure.picture)).scalars().all())
    assert set(kept) == poison
    assert deaths <= MAX_ATTEMPTS + 3 * len(culprits), "13 -> 4 -> 1: a death of the part, two of what stands alone"
    assert len(vectors(ledger, tower)) == 13 - len(culprits)
    assert len(stored(ledger)) == 13, "what is buried stays stored"
    assert status(ledger, job)["state"] == "finished_with_failures"


def keys_of(ledger: Ledger, batch: Batch) -> list[str]:
    query = select(Digit.key).where(Digit.id.in_(batch.digits))
    return list(ledger(lambda session: session.execute(query).scalars().all()))


def test_poison_is_a_failure_of_the_job_it_killed_for(ledger: Ledger, tower: int) -> None:
    """Another job that waits for the same picture tries for itself."""
    first, second = uuid.uuid4(), uuid.uuid4()
    batch = send(ledger, item("a", 1), job=first)
    waiting = send(ledger, item("a", 1), item("b", 2), job=second)
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, batch)
        rescue(ledger)
    embed(ledger, waiting)
    assert failures(ledger, first) == {"a": "poison"}
    assert counts(ledger, first) == {"accepted": 1, "failed": 1}
    assert counts(ledger, second) == {"accepted": 2, "succeeded": 2}


def test_a_buried_picture_adds_to_those_refused_with_it(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), job=job, failures=[FailedItem("bad", "damaged", "half a file", None)])
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, batch)
        rescue(ledger)
    assert counts(ledger, job) == {"accepted": 2, "failed": 2}
    assert failures(ledger, job) == {"a": "poison", "bad": "damaged"}


def test_a_bell_is_rung_once_until_it_is_due_again(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    assert to_ring(ledger) == [], "submit's caller rings for it"
    unring(ledger)
    assert to_ring(ledger) == [(batch, "embed")]
    assert to_ring(ledger) == []
    assert to_ring(ledger, republish_after=0) == [(batch, "embed")]


def test_bells_that_are_out_stay_below_the_cap(ledger: Ledger, tower: int) -> None:
    sent = [send(ledger, item(f"key {seed}", seed)) for seed in range(5)]
    unring(ledger)
    assert to_ring(ledger, in_flight=2) == [(batch, "embed") for batch in sent[:2]]
    assert to_ring(ledger, in_flight=2) == []
    embed(ledger, sent[0])
    assert to_ring(ledger, in_flight=2) == [(sent[2], "embed")]


def test_trainings_that_nobody_hears_silence_no_other_lane(ledger: Ledger, tower: int) -> None:
    _, training = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    batch = send(ledger, item("a", 1))
    unring(ledger)
    assert to_ring(ledger, in_flight=1) == [(batch, "embed"), (training, "train")]


@pytest.mark.parametrize("kinds", [("train",), ("backfill", "train")])
def test_a_batch_of_another_kind_is_not_to_be_had(ledger: Ledger, tower: int, kinds: tuple[str, ...]) -> None:
    batch = send(ledger, item("a", 1)) or 0
    attempt = partial(leases.claim, batch=batch, worker="worker", lease=60, max_attempts=MAX_ATTEMPTS)
    assert ledger(partial(attempt, kinds=kinds)) is None
    assert ledger(partial(attempt, kinds=("embed",))) is not None


def test_nothing_is_rung_for_without_a_tower_but_a_training(ledger: Ledger) -> None:
    batch = send(ledger, item("a", 1))
    _, training = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    unring(ledger)
    assert to_ring(ledger) == [(training, "train")]
    register(ledger)
    assert to_ring(ledger) == [(batch, "embed")]


def test_the_backlog_counts_what_callers_wait_for(ledger: Ledger, tower: int) -> None:
    sent = send(ledger, item("a", 1), item("b", 2))
    claim(ledger, send(ledger, item("c", 3)))
    assert ledger(intake.backlog) == 3
    embed(ledger, sent)
    assert ledger(intake.backlog) == 1


def test_receipts_name_each_accepted_chunk_once(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    for seq in range(4):
        send(ledger, item(f"a{seq}", seq), item(f"b{seq}", seq), job=job, seq=seq, open=True)
    first = ledger(lambda session: session.execute(select(Batch.id).where(Batch.seq == 0)).scalar_one())
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, first)
        rescue(ledger)
    assert states(ledger, job)[0] == "split"
    assert [seq for seq, _ in ledger(intake.receipts, job, after=-1)] == [0, 1, 2, 3]
    assert [seq for seq, _ in ledger(intake.receipts, job, after=1)] == [2, 3]


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
    ids, pixels = ledger(digits.pixels_of, [id for lease in leases for id in lease.digits])
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
    ids, pixels = ledger(digits.pixels_of, [id for lease in leases for id in lease.digits])
    with pytest.raises(LeaseLost):
        ledger(finish_batches, leases, ids, {tower: picked(tower, pixels)}, {})
    assert vectors(ledger, tower) == {}
    assert states(ledger, job) == ["leased"]
