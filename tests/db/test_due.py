"""Which batches the sweep publishes: those that are due, up to a cap, each lane by itself."""

import uuid
from functools import partial

from db.queue import trainings
from db.queue.rescue import take_due
from db.states import JobKind
from db.tables import Batch
from tests.makers import Ledger, embed, item, register, send


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
