"""One tower answers, one may be filled beside it, and no two spaces meet."""

import uuid
from functools import partial

import numpy as np
import pytest
from sqlalchemy import select, text

from db.errors import LeaseLost, NoTower, TrainingRunning
from db.queue import trainings
from db.queue.cancel import cancel_job
from db.tables import Batch, Job
from db.vectors import backfill, embeddings, lifecycle, partitions, towers
from db.vectors.filters import described
from tests.makers import (
    MAX_ATTEMPTS,
    Ledger,
    age,
    bury,
    claim,
    die_on,
    embed,
    finish,
    item,
    nearest,
    promote,
    register,
    rescue,
    send,
    states,
    status,
    stored,
    together,
    tower_statuses,
    vector,
    vectors,
)


def embed_all(ledger: Ledger) -> int:
    """Embed every queued batch; how many there were."""
    queued = ledger(
        lambda session: (
            session.execute(select(Batch.id).where(Batch.state == "queued").order_by(Batch.id)).scalars().all()
        )
    )
    for batch in queued:
        embed(ledger, batch)
    return len(queued)


def lose_vectors(ledger: Ledger, tower: int, count: int) -> None:
    """Delete vectors by hand."""
    ledger(
        lambda session: session.execute(
            text("""
                DELETE FROM embeddings WHERE tower = :tower AND digit IN
                (SELECT digit FROM embeddings WHERE tower = :tower ORDER BY digit LIMIT :count)
            """),
            {"tower": tower, "count": count},
        )
    )


def fills(ledger: Ledger) -> list[uuid.UUID]:
    query = select(Job.id).where(Job.kind == "backfill").order_by(Job.created_at)
    return list(ledger(lambda session: session.execute(query).scalars().all()))


def has_space(ledger: Ledger, tower: int) -> bool:
    query = text("SELECT to_regclass(:name) IS NOT NULL")
    return bool(ledger(lambda session: session.execute(query, {"name": f"embeddings_{tower}"}).scalar_one()))


@pytest.fixture
def digits(ledger: Ledger) -> int:
    """A live tower with five digits embedded; the tower."""
    tower = register(ledger)
    embed(ledger, send(ledger, *(item(f"key {seed}", seed) for seed in range(5))))
    return tower


def test_the_first_tower_goes_live_at_once(ledger: Ledger) -> None:
    with pytest.raises(NoTower):
        ledger(towers.live)
    tower = register(ledger)
    assert ledger(towers.live).id == tower


def test_a_later_tower_is_a_candidate_and_new_digits_are_embedded_under_both(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    assert tower_statuses(ledger) == {digits: "live", newer: "candidate"}
    embed(ledger, send(ledger, item("new", 9)))
    for tower in (digits, newer):
        assert vectors(ledger, tower)["new"] == pytest.approx(vector(tower, 9))


def test_a_candidate_is_backfilled_and_goes_live_when_nothing_is_due(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    assert promote(ledger) is None
    embed_all(ledger)
    assert promote(ledger) == newer
    assert tower_statuses(ledger) == {digits: "previous", newer: "live"}
    assert set(vectors(ledger, newer)) == set(stored(ledger))


def test_a_candidate_with_vectors_missing_is_not_promoted_but_filled_again(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    lose_vectors(ledger, newer, 2)
    assert promote(ledger) is None
    assert ledger(towers.live).id == digits
    assert embed_all(ledger) == 1
    assert promote(ledger) == newer
    assert len(vectors(ledger, newer)) == 5


def test_a_candidate_without_digits_to_fill_goes_live(ledger: Ledger) -> None:
    register(ledger)
    newer = register(ledger, "newer")
    assert promote(ledger) == newer


def test_digits_that_are_due_under_both_hold_no_candidate_back(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    fill = fills(ledger)
    embed_all(ledger)
    batch = send(ledger, item("late", 9))
    assert promote(ledger) == newer
    embed(ledger, batch)
    assert len(vectors(ledger, newer)) == 6
    assert status(ledger, fill[0])["state"] == "finished"


def test_of_three_generations_the_oldest_is_retired_and_its_space_dropped(ledger: Ledger, digits: int) -> None:
    generations = [digits]
    for name in ("second", "third"):
        generations.append(register(ledger, name))
        embed_all(ledger)
        assert promote(ledger) == generations[-1]
    assert list(tower_statuses(ledger).values()) == ["live", "previous", "retired"]
    assert ledger(partitions.partitions_to_drop) == [], "a look-up may be about to read it"
    age(ledger, days=0.001)
    assert ledger(partitions.partitions_to_drop) == [digits]
    ledger(partitions.drop_partition, digits)
    assert ledger(partitions.partitions_to_drop) == []
    assert [has_space(ledger, tower) for tower in generations] == [False, True, True]
    assert vectors(ledger, digits) == {}


def test_weights_that_are_registered_already_are_not_registered_twice(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    assert register(ledger, "newer") == newer
    assert register(ledger) == digits
    assert tower_statuses(ledger) == {digits: "live", newer: "candidate"}


@pytest.mark.parametrize("dropped", [False, True])
def test_weights_that_were_rejected_can_be_registered_again(ledger: Ledger, digits: int, dropped: bool) -> None:
    second = register(ledger, "second")
    embed_all(ledger)
    third = register(ledger, "third")
    if dropped:
        ledger(partitions.drop_partition, second)
    assert register(ledger, "second") == second
    assert tower_statuses(ledger) == {digits: "live", second: "candidate", third: "rejected"}
    embed_all(ledger)
    assert promote(ledger) == second
    assert len(vectors(ledger, second)) == 5


def test_a_newer_candidate_takes_the_place_of_an_older_one(ledger: Ledger, digits: int) -> None:
    second = register(ledger, "second")
    batch = ledger(lambda session: session.execute(select(Batch.id).where(Batch.state == "queued")).scalar_one())
    lease = claim(ledger, batch)
    (fill,) = fills(ledger)
    third = register(ledger, "third")
    assert tower_statuses(ledger) == {digits: "live", second: "rejected", third: "candidate"}
    assert (states(ledger, fill), status(ledger, fill)["state"]) == (["cancelled"], "failed")
    assert lease is not None
    with pytest.raises(LeaseLost):
        finish(ledger, lease)
    age(ledger, days=0.001)
    assert ledger(partitions.partitions_to_drop) == [second]
    embed_all(ledger)
    assert promote(ledger) == third


def test_no_batch_of_a_rejected_candidate_stays_open(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, digits: int
) -> None:
    monkeypatch.setattr(backfill, "BACKFILL_BATCH", 1)
    second = register(ledger, "second")
    fills = select(Batch).join(Job).where(Job.tower == second).order_by(Batch.id)
    first, *others = ledger(lambda session: session.execute(fills).scalars().all())
    assert others
    bury(ledger, first.id)
    assert ledger(partial(lifecycle.reject, tower=second, why="it kills"))
    assert {batch.state for batch in ledger(lambda session: session.execute(fills).scalars().all())} == {
        "dead",
        "cancelled",
    }


def test_a_candidate_whose_fill_kills_its_workers_is_rejected(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    while queued := ledger(
        lambda session: session.execute(select(Batch.id).where(Batch.state == "queued")).scalars().all()
    ):
        die_on(ledger, queued[0])
        rescue(ledger)
    assert promote(ledger) is None
    assert tower_statuses(ledger) == {digits: "live", newer: "rejected"}
    assert len(stored(ledger)) == 5, "a tower's fault must cost no digit"


def test_counts_of_a_fill_add_up_when_a_digit_was_replaced_meanwhile(ledger: Ledger, digits: int) -> None:
    register(ledger, "newer")
    (fill,) = fills(ledger)
    send(ledger, item("key 3", 33))
    embed_all(ledger)
    promote(ledger)
    found = status(ledger, fill)
    assert found["state"] == "finished"
    assert found["succeeded"] + found["cancelled"] == found["total"] == 5


def test_counts_of_a_fill_that_was_cut_short_add_up(ledger: Ledger, digits: int) -> None:
    register(ledger, "second")
    (fill,) = fills(ledger)
    register(ledger, "third")
    assert status(ledger, fill)["cancelled"] == status(ledger, fill)["total"] == 5


def test_a_candidate_that_was_rejected_while_upkeep_looked_is_not_promoted(ledger: Ledger, digits: int) -> None:
    """Upkeep reads the candidate, and has to wait for a training that registers a newer one."""
    second = register(ledger, "second")
    embed_all(ledger)
    together(lambda: promote(ledger), lambda: register(ledger, "third"))
    found = tower_statuses(ledger)
    assert (found[digits], found[second]) in (("live", "rejected"), ("previous", "live"))


def test_lost_vectors_are_due_and_backfilled_from_the_stored_pixels(ledger: Ledger, digits: int) -> None:
    lose_vectors(ledger, digits, 3)
    assert ledger(backfill.queue_due) == 3
    assert ledger(backfill.queue_due) == 0, "they wait in a batch now"
    embed_all(ledger)
    found = vectors(ledger, digits)
    assert found.keys() == stored(ledger).keys()
    for seed in range(5):
        assert found[f"key {seed}"] == pytest.approx(vector(digits, seed))


def test_digits_of_an_open_batch_are_not_due_twice(ledger: Ledger, digits: int) -> None:
    batch = send(ledger, item("new", 9))
    assert ledger(backfill.queue_due) == 0
    claim(ledger, batch)
    assert ledger(backfill.queue_due) == 0


def test_nothing_is_due_without_a_tower(ledger: Ledger) -> None:
    send(ledger, item("a", 1))
    assert ledger(backfill.queue_due) == 0


def test_vectors_due_under_a_tower_that_left_are_due_under_its_successor(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    for tower in (digits, newer):
        lose_vectors(ledger, tower, 1)
    assert ledger(backfill.queue_due) == 1
    _, fill = fills(ledger)
    assert promote(ledger) == newer
    assert status(ledger, fill)["state"] in ("failed", "finished"), "a fill of a tower that left goes on for ever"
    assert ledger(backfill.queue_due) == 1
    embed_all(ledger)
    assert len(vectors(ledger, newer)) == 5


def test_towers_do_not_see_each_other(ledger: Ledger, digits: int) -> None:
    """The vector of a digit under one tower stands at no distance 0 under the other."""
    newer = register(ledger, "newer")
    embed_all(ledger)
    for tower, other in ((digits, newer), (newer, digits)):
        own = nearest(ledger, tower, vector(tower, 2), k=5).neighbours
        assert (own[0].key, own[0].distance) == ("key 2", 0)
        foreign = nearest(ledger, tower, vector(other, 2), k=5).neighbours
        assert all(neighbour.distance > 1 for neighbour in foreign)
    ledger(partitions.drop_partition, newer)
    assert len(vectors(ledger, digits)) == 5


def test_a_list_of_towers_counts_what_is_embedded_and_due(ledger: Ledger, digits: int) -> None:
    register(ledger, "newer")
    send(ledger, item("new", 9))
    newest, oldest = ledger(towers.all_of_them)
    assert (newest.embedded, newest.due) == (0, 6)
    assert (oldest.embedded, oldest.due) == (5, 1)


def test_a_fill_larger_than_a_batch_is_cut_by_id(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, digits: int) -> None:
    monkeypatch.setattr(backfill, "BACKFILL_BATCH", 2)
    register(ledger, "newer")
    query = select(Batch.digits).where(Batch.state == "queued").order_by(Batch.id)
    parts = ledger(lambda session: session.execute(query).scalars().all())
    assert [len(part) for part in parts] == [2, 2, 1]
    assert np.all(np.diff(np.concatenate(parts)) > 0)


def test_one_training_at_a_time(ledger: Ledger) -> None:
    job, _ = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    with pytest.raises(TrainingRunning, match=str(job)):
        ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=1)
    ledger(trainings.end, job, message="no data")
    ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=1)


def test_of_two_trainings_started_at_once_one_is_refused(ledger: Ledger) -> None:
    def start() -> bool:
        try:
            ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
        except TrainingRunning:
            return False
        return True

    assert sorted(together(start, start, start)) == [False, False, True]


def test_a_training_that_kills_its_worker_again_and_again_fails(ledger: Ledger) -> None:
    job, batch = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, batch)
        rescue(ledger)
    assert (status(ledger, job)["state"], status(ledger, job)["message"]) == (
        "failed",
        f"batch {batch}: its worker died 3 times on it, last worker",
    )
    ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=1)


def test_a_cancelled_training_makes_room_for_another(ledger: Ledger) -> None:
    job, _ = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    ledger(cancel_job, job)
    assert status(ledger, job)["state"] == "cancelled"
    ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=1)


def test_a_vector_of_a_digit_is_stored_once(ledger: Ledger, digits: int) -> None:
    """Upserted: what is there stays."""
    before = vectors(ledger, digits)
    ids = ledger(lambda session: session.execute(text("SELECT id FROM digits ORDER BY id")).scalars().all())
    zeros = np.zeros((len(ids), 128), np.float32)
    ledger(embeddings.write, digits, ledger(described, np.asarray(ids)), zeros)
    for key, found in vectors(ledger, digits).items():
        assert found == pytest.approx(before[key])


def test_the_calendar_of_a_tower_starts_when_it_goes_live(ledger: Ledger, digits: int) -> None:
    newer = register(ledger, "newer")
    promoted = text("SELECT promoted_at IS NOT NULL FROM towers WHERE id = :id")
    assert ledger(lambda session: session.execute(promoted, {"id": digits}).scalar_one())
    assert not ledger(lambda session: session.execute(promoted, {"id": newer}).scalar_one())
    embed_all(ledger)
    promote(ledger)
    assert ledger(lambda session: session.execute(promoted, {"id": newer}).scalar_one())
