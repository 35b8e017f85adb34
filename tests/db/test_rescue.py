"""What lost its holder is tried again, and poison is split down to the pictures that kill."""

import uuid

import pytest
from sqlalchemy import select

from db.errors import LeaseLost
from db.queue.failures import FailedItem
from db.tables import Batch, Digit, Failure
from tests.makers import (
    MAX_ATTEMPTS,
    Ledger,
    claim,
    counts,
    die_on,
    embed,
    expire,
    failures,
    finish,
    glyph,
    item,
    rescue,
    send,
    states,
    status,
    stored,
    vectors,
)


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
    """The process that holds a culprit dies."""
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
