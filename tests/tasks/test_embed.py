"""A worker's whole step: claim, read, compute, write; under whatever happens meanwhile."""

import uuid
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from redis import Redis
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.queue import dead, leases
from db.queue.leases import Lease
from db.tables import Batch
from tasks import embed as embedding
from tasks.embed import embed, embed_claimed, embed_in_turn
from tasks.jobs import end_job
from tests.makers import (
    Array,
    PickedPixels,
    batch_of,
    claim,
    counts,
    eventually,
    expire,
    failures,
    finish,
    glyph,
    item,
    picked,
    promote,
    register,
    rescue,
    row,
    send,
    states,
    status,
    tower_statuses,
    vector,
    vectors,
)
from training.errors import TowerError
from twinvec_client.contract.messages import Cancel
from worker.lease_renewal import LeaseRenewer
from worker.runtime import Runtime


class Interrupted(PickedPixels):
    """A tower during whose first call something happens."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        self.meanwhile: Callable[[], Any] | None = meanwhile

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        def call(pixels: Array) -> Array:
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return picked(tower, pixels)

        return call


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower."""
    return register(runtime.transact)


def test_a_batch_is_embedded_under_every_tower_that_is_live_or_being_filled(runtime: Runtime, tower: int) -> None:
    newer = register(runtime.transact, "newer")
    batch = batch_of(runtime.transact, item("a", 1), item("b", 2))
    embed(batch, runtime)
    for each in (tower, newer):
        found = vectors(runtime.transact, each)
        assert found["a"] == pytest.approx(vector(each, 1))
        assert found["b"] == pytest.approx(vector(each, 2))


def test_a_message_for_a_batch_that_is_done_changes_nothing(runtime: Runtime, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("a", 1), job=job)
    for _ in range(3):
        embed(batch, runtime)
    assert counts(runtime.transact, job) == {"accepted": 1, "succeeded": 1}


def test_a_tower_that_comes_up_while_another_computes_is_embedded_under_as_well(runtime: Runtime, tower: int) -> None:
    batch = batch_of(runtime.transact, item("a", 1), item("b", 2))
    new: list[int] = []
    runtime.towers = Interrupted(lambda: new.append(register(runtime.transact, "newer")))
    embed(batch, runtime)
    assert vectors(runtime.transact, new[0])["b"] == pytest.approx(vector(new[0], 2))
    assert len(vectors(runtime.transact, tower)) == 2


def test_a_worker_that_lost_its_lease_drops_its_work(runtime: Runtime, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("a", 1), job=job)

    def another_takes_it() -> None:
        expire(runtime.transact, batch)
        lease = claim(runtime.transact, batch, worker="another")
        assert lease is not None
        finish(runtime.transact, lease)

    runtime.towers = Interrupted(another_takes_it)
    embed(batch, runtime)
    assert counts(runtime.transact, job) == {"accepted": 1, "succeeded": 1}
    assert states(runtime.transact, job) == ["done"]


def test_a_picture_replaced_while_it_is_computed_gets_its_own_vector(runtime: Runtime, tower: int) -> None:
    old = uuid.uuid4()
    new: list[int] = []
    batch = batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(6)), job=old)
    runtime.towers = Interrupted(lambda: new.append(batch_of(runtime.transact, item("key 2", 22), item("key 4", 44))))
    embed(batch, runtime)
    embed(new[0], runtime)
    found = vectors(runtime.transact, tower)
    for key, seed in {"key 0": 0, "key 1": 1, "key 2": 22, "key 3": 3, "key 4": 44, "key 5": 5}.items():
        assert found[key] == pytest.approx(vector(tower, seed))
    assert failures(runtime.transact, old) == {"key 2": "superseded", "key 4": "superseded"}


def test_work_that_fails_is_given_back_for_another_try(runtime: Runtime, tower: int) -> None:
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("a", 1), job=job)

    def fail() -> None:
        raise MemoryError("no room on the card")

    runtime.towers = Interrupted(fail)
    with pytest.raises(MemoryError):
        embed(batch, runtime)
    assert states(runtime.transact, job) == ["queued"]
    assert row(runtime.transact, batch).message == "MemoryError: no room on the card"
    embed(batch, runtime)
    assert counts(runtime.transact, job) == {"accepted": 1, "succeeded": 1}
    assert row(runtime.transact, batch).message is None


def test_what_is_due_is_embedded_one_after_the_other_by_one_message(runtime: Runtime, tower: int) -> None:
    batches = [batch_of(runtime.transact, item(f"{at}", at)) for at in range(3)]
    with patch.object(leases, "SMALL", 0):  # each by itself
        embed_in_turn(batches[1], runtime)
    assert [row(runtime.transact, batch).state for batch in batches] == ["done"] * 3
    assert vectors(runtime.transact, tower).keys() == {"0", "1", "2"}


def test_a_batch_that_was_claimed_ahead_is_given_back_where_the_one_before_it_fails(
    runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (batch_of(runtime.transact, item(f"{at}", at)) for at in range(2))

    def fail(session: Session, *_: Any, **__: Any) -> None:
        eventually(lambda: row(runtime.transact, second).attempt == 1, "the next one is claimed meanwhile")
        raise RuntimeError("no room")

    monkeypatch.setattr(embedding, "finish", fail)
    monkeypatch.setattr(leases, "SMALL", 0)
    with pytest.raises(RuntimeError):
        embed_in_turn(first, runtime)
    failed, ahead = row(runtime.transact, first), row(runtime.transact, second)
    assert (failed.state, failed.errors) == ("queued", 1)
    assert (ahead.state, ahead.attempt, ahead.errors) == ("queued", 0, 0), "it has not failed itself"


def test_nothing_is_claimed_ahead_of_a_batch_that_may_have_crashed_its_worker(
    runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (batch_of(runtime.transact, item(f"{at}", at)) for at in range(2))
    claim(runtime.transact, first)
    expire(runtime.transact, first)
    rescue(runtime.transact)
    monkeypatch.setattr(leases, "SMALL", 0)
    embed_in_turn(first, runtime)
    assert row(runtime.transact, first).state == "done"
    assert row(runtime.transact, second).attempt == 0


def test_a_lease_is_renewed_while_the_work_lasts(runtime: Runtime, tower: int) -> None:
    runtime.lease_renewer = LeaseRenewer(runtime._renew, every=0.02)
    batch = batch_of(runtime.transact, item("a", 1))

    def leased_until() -> Any:
        return runtime.transact(
            lambda session: session.execute(select(Batch.lease_until).where(Batch.id == batch)).scalar_one()
        )

    def outlive_the_lease() -> None:
        expire(runtime.transact, batch)
        expired = leased_until()
        eventually(lambda: leased_until() > expired, "the lease is renewed")
        rescue(runtime.transact)

    runtime.towers = Interrupted(outlive_the_lease)
    embed(batch, runtime)
    assert len(vectors(runtime.transact, tower)) == 1


def test_a_lease_is_not_renewed_after_the_work(runtime: Runtime, tower: int) -> None:
    renewed: list[int] = []

    def renew(lease: Lease) -> bool:
        renewed.append(lease.batch)
        return True

    renewer = LeaseRenewer(renew, every=0.01)
    batches = [batch_of(runtime.transact, item(key, 1)) for key in "ab"]
    first, second = (claim(runtime.transact, batch) for batch in batches)
    assert first is not None
    assert second is not None
    with renewer.renewing(first):
        eventually(lambda: bool(renewed), "the first lease is renewed")
    with renewer.renewing(second):
        eventually(lambda: second.batch in renewed, "the second lease is renewed")
        after = renewed.index(second.batch)
        eventually(lambda: len(renewed) > after + 3, "it is renewed again")
    assert first.batch not in renewed[after:]


def test_a_heart_goes_on_when_a_renewal_fails(runtime: Runtime, tower: int) -> None:
    beats: list[int] = []

    def renew(_: Any) -> bool:
        beats.append(1)
        if len(beats) == 1:
            raise ConnectionError("the database is away")
        return True

    lease = claim(runtime.transact, send(runtime.transact, item("a", 1)))
    assert lease is not None
    with LeaseRenewer(renew, every=0.01).renewing(lease):
        eventually(lambda: len(beats) > 2, "it beats again")


def test_shuffled_ids_in_a_batch_change_no_pairing(runtime: Runtime, tower: int) -> None:
    batch = batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(30)))
    ids = runtime.transact(lambda session: session.execute(select(Batch.digits)).scalar_one())
    order = np.random.default_rng(3).permutation(ids).tolist()
    runtime.transact(lambda session: session.execute(update(Batch).values(digits=order)))
    embed(batch, runtime)
    found = vectors(runtime.transact, tower)
    for seed in range(30):
        assert found[f"key {seed}"] == pytest.approx(vector(tower, seed))


class Spoilt(PickedPixels):
    """Towers of which one gives NaN for the pictures of some seeds."""

    def __init__(self, tower: int, *seeds: int) -> None:
        self.tower, self.pictures = tower, {glyph(seed) for seed in seeds}

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        def call(pixels: Array) -> Array:
            rows = picked(tower, pixels)
            if tower == self.tower:
                rows[[row.tobytes() in self.pictures for row in pixels]] = np.nan
            return rows

        return call


def test_a_picture_that_comes_to_nan_costs_only_itself(runtime: Runtime, tower: int) -> None:
    job = uuid.uuid4()
    runtime.towers = Spoilt(tower, 2, 5)
    batch = batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(6)), job=job)
    embed(batch, runtime)
    assert counts(runtime.transact, job) == {"accepted": 6, "succeeded": 4, "failed": 2}
    assert failures(runtime.transact, job) == {"key 2": "not_finite", "key 5": "not_finite"}
    assert sorted(vectors(runtime.transact, tower)) == ["key 0", "key 1", "key 3", "key 4"]
    (aside,) = runtime.transact(dead.page, limit=9)
    assert aside.digits == 2
    runtime.towers = PickedPixels()
    runtime.transact(dead.requeue, aside.id)
    embed(aside.id, runtime)
    assert counts(runtime.transact, job) == {"accepted": 6, "succeeded": 6}


def test_a_batch_of_nothing_but_nan_ends(runtime: Runtime, tower: int) -> None:
    job = uuid.uuid4()
    runtime.towers = Spoilt(tower, 1, 2)
    embed(batch_of(runtime.transact, item("a", 1), item("b", 2), job=job), runtime)
    assert status(runtime.transact, job)["state"] == "finished_with_failures"


def test_a_candidate_that_gives_nan_is_given_up_and_costs_nothing(runtime: Runtime, tower: int) -> None:
    candidate = register(runtime.transact, "newer")
    job = uuid.uuid4()
    runtime.towers = Spoilt(candidate, 1)
    embed(batch_of(runtime.transact, item("a", 1), item("b", 2), job=job), runtime)
    assert counts(runtime.transact, job) == {"accepted": 2, "succeeded": 2}
    assert tower_statuses(runtime.transact) == {tower: "live", candidate: "rejected"}
    assert len(vectors(runtime.transact, tower)) == 2


def test_small_jobs_share_a_call_of_the_tower_and_each_ends_by_itself(runtime: Runtime, tower: int) -> None:
    """One is cancelled and one holds NaN: neither costs the others anything."""
    named = {key: uuid.uuid4() for key in ("good", "cancelled", "spoilt", "fine")}
    sent = [batch_of(runtime.transact, item(key, at), job=job) for at, (key, job) in enumerate(named.items())]
    calls = 0

    class Shared(Spoilt):
        def __getitem__(self, id: int) -> Callable[[Array], Array]:
            nonlocal calls
            calls += 1
            if calls == 1:
                end_job(Cancel(job=str(named["cancelled"]), by="me"), runtime)
            return super().__getitem__(id)

    runtime.towers = Shared(tower, 2)
    embed(sent[0], runtime)
    assert calls == 1
    assert {key: status(runtime.transact, job)["state"] for key, job in named.items()} == {
        "good": "finished",
        "cancelled": "cancelled",
        "spoilt": "finished_with_failures",
        "fine": "finished",
    }
    assert sorted(vectors(runtime.transact, tower)) == ["fine", "good"]


class Broken(PickedPixels):
    """Towers of which one cannot be loaded."""

    def __init__(self, tower: int) -> None:
        self.tower = tower

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        if tower == self.tower:
            raise TowerError("its file is none")
        return super().__getitem__(tower)


def test_a_tower_that_cannot_be_loaded_holds_up_new_digits_only_where_it_is_live(runtime: Runtime, tower: int) -> None:
    second = register(runtime.transact, "second")
    embed(batch_of(runtime.transact, item("a", 1)), runtime)
    assert promote(runtime.transact) == second
    third = register(runtime.transact, "third")
    for broken, becomes in ((tower, "retired"), (third, "rejected")):
        runtime.towers = Broken(broken)
        embed(batch_of(runtime.transact, item(f"beside {broken}", 10 + broken)), runtime)
        assert tower_statuses(runtime.transact)[broken] == becomes
    assert len(vectors(runtime.transact, second)) == 3
    runtime.towers = Broken(second)
    with pytest.raises(TowerError):
        embed(batch_of(runtime.transact, item("b", 2)), runtime)
    assert tower_statuses(runtime.transact)[second] == "live"


class Loading(PickedPixels):
    """Towers of which one is not loaded yet."""

    def __init__(self, tower: int) -> None:
        self.tower = tower

    def prepare(self, tower: int) -> bool:
        return tower != self.tower


def test_a_process_that_answers_leaves_digits_to_another_while_a_tower_is_loaded(
    runtime: Runtime, broker: Redis, tower: int
) -> None:
    candidate = register(runtime.transact, "newer")
    runtime.towers = Loading(candidate)
    batch = batch_of(runtime.transact, item("a", 1))
    assert embed_claimed(runtime.claim_together(batch), runtime, loads=False) == {batch}
    assert (row(runtime.transact, batch).state, row(runtime.transact, batch).attempt) == ("queued", 0)
    assert broker.llen("twinvec:embed") == 1
    embed(batch, runtime)
    assert "a" in vectors(runtime.transact, candidate)
    runtime.towers = PickedPixels()
    second = batch_of(runtime.transact, item("b", 2))
    embed_claimed(runtime.claim_together(second), runtime, loads=False)
    assert row(runtime.transact, second).state == "done"
