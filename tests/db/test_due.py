"""Which batches the sweep publishes: those that are due, up to a cap, each lane by itself."""

import uuid
from functools import partial

from sqlalchemy import text

from db.queue import dead, trainings
from db.queue.leases import claim_more, give_back
from db.queue.rescue import take_due
from db.states import JobKind
from db.tables import Batch
from tests.makers import MAX_ERRORS, Ledger, claim, embed, failures, item, register, rescue, send, status


def due(ledger: Ledger, *, republish_after: float = 30, in_flight: int = 64) -> list[tuple[int, str]]:
    return [
        found
        for kind in JobKind
        for found in ledger(partial(take_due, kind=kind, republish_after=republish_after, in_flight=in_flight))
    ]


def unpublish(ledger: Ledger) -> None:
    """As if no batch had been published."""
    ledger(lambda session: session.query(Batch).update({"published_at": None}))


def test_a_batch_is_published_once_until_it_is_due_again(ledger: Ledger, tower: int) -> None:
    batch = send(ledger, item("a", 1))
    assert due(ledger) == [], "submit's caller publishes it"
    unpublish(ledger)
    assert due(ledger) == [(batch, "embed")]
    assert due(ledger) == []
    assert due(ledger, republish_after=0) == [(batch, "embed")]


def test_batches_that_are_published_and_not_taken_stay_below_the_cap(ledger: Ledger, tower: int) -> None:
    sent = [send(ledger, item(f"key {seed}", seed)) for seed in range(5)]
    unpublish(ledger)
    assert due(ledger, in_flight=2) == [(batch, "embed") for batch in sent[:2]]
    assert due(ledger, in_flight=2) == []
    embed(ledger, sent[0])
    assert due(ledger, in_flight=2) == [(sent[2], "embed")]


def test_trainings_that_no_worker_takes_hold_up_no_other_lane(ledger: Ledger, tower: int) -> None:
    _, training = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    batch = send(ledger, item("a", 1))
    unpublish(ledger)
    assert due(ledger, in_flight=1) == [(batch, "embed"), (training, "train")]


def test_nothing_is_published_without_a_tower_but_a_training(ledger: Ledger) -> None:
    batch = send(ledger, item("a", 1))
    _, training = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    unpublish(ledger)
    assert due(ledger) == [(training, "train")]
    register(ledger)
    assert due(ledger) == [(batch, "embed")]


def test_what_fails_is_tried_later_and_later_and_is_dead_at_last(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), item("b", 2), job=job)
    pauses = []
    for _ in range(MAX_ERRORS):
        assert rescue(ledger) == 0
        unpublish(ledger)
        assert due(ledger) == [(batch, "embed")]
        lease = claim(ledger, batch)
        assert lease is not None
        ledger(give_back, lease, error="OSError: the card fell out", pause=10)
        assert due(ledger) == [], "it waits"
        pauses.append(pause(ledger, batch))
    assert pauses == [10, 10, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300]
    assert rescue(ledger) == 1
    assert failures(ledger, job) == {"a": "error", "b": "error"}
    assert status(ledger, job)["state"] == "finished_with_failures"
    (listed,) = ledger(dead.page, limit=10)
    assert listed.message == "all 12 tries failed, the last one: OSError: the card fell out"
    ledger(dead.requeue, batch)
    assert rescue(ledger) == 0, "its errors are forgotten"
    assert due(ledger) == [(batch, "embed")]
    embed(ledger, batch)
    assert status(ledger, job)["state"] == "finished"


def test_what_failed_is_tried_alone(ledger: Ledger, tower: int) -> None:
    """Whose work failed would take others with it."""
    failing, first, second = (send(ledger, item(key, seed)) for seed, key in enumerate("abc"))
    lease = claim(ledger, failing)
    assert lease is not None
    ledger(give_back, lease, error="ValueError: no digit")
    claimed = claim(ledger, first)
    assert [more.batch for more in ledger(claim_more, claimed, worker="worker", lease=60)] == [second]


def pause(ledger: Ledger, batch: int | None) -> float:
    """Seconds until it is tried again; then they pass."""
    left = text("SELECT round(extract(epoch FROM retry_at - now())) FROM batches WHERE id = :id")
    seconds = ledger(lambda session: session.execute(left, {"id": batch}).scalar_one())
    ledger(lambda session: session.execute(text("UPDATE batches SET retry_at = now()")))
    return float(seconds)
