"""A retraining is one job: it learns from what is stored and not held out, and ends when its tower is live or rejected.

The network is a stand-in: what is tested is what it is given, and the ledger around it.
"""

import sys
import uuid
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from db import digits, examples, judgements
from db.errors import LeaseLost, TrainingRunning
from db.holdout import held_out
from db.judgements import Said
from db.queue import delete, trainings
from db.queue.cancel import cancel_job
from db.tables import Batch, Checkpoint, Digit, Job, Tower
from tasks import material
from tasks.answering import InvalidRequest
from tasks.embed import embed
from tasks.judging import judge
from tasks.lifecycle import schedule, start, stop
from tasks.train import train
from tasks.upkeep import sweep
from tests.makers import (
    MAX_ATTEMPTS,
    batch_of,
    expire,
    glyph,
    item,
    pass_judging,
    register,
    rescue,
    row,
    send,
    status,
    tower_statuses,
)
from tests.tasks.test_train import SAMPLE, Room
from training.data.dataset import Dataset
from twinvec_client.contract.messages import Retrain, StopTraining
from worker.runtime import Runtime
from worker.settings import Settings

KEYS = [f"key {at}" for at in range(60)]
LABELS = {key: at % 10 for at, key in enumerate(KEYS)}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """The stand-in for the network, and a few digits in the place of MNIST."""
    room = Room()
    monkeypatch.setitem(sys.modules, "training.fit.train", room)
    monkeypatch.setattr("training.data.mnist.load", lambda path: SAMPLE)
    return room


def store_labelled(runtime: Runtime) -> None:
    """Sixty digits with labels, some of them held out, and one without."""
    labelled = [item(key, at, label=LABELS[key]) for at, key in enumerate(KEYS)]
    batch = batch_of(runtime.transact, *labelled, item("unlabelled", 99))
    embed(batch, runtime)


def opened(runtime: Runtime, data: str = "both", seed: int = 1) -> tuple[uuid.UUID, int]:
    """A retraining that waits for a worker: its job and its batch."""
    fields: dict[str, Any] = {"recipe": "notebook", "seed": seed, "started_by": "a test"}
    job, batch = runtime.transact(trainings.start, uuid.uuid4(), data=data, promotes=True, **fields)
    return job, batch


def asked(data: Any = "both") -> Retrain:
    return Retrain(job=str(uuid.uuid4()), recipe="notebook", seed=1, data=data, callback=None, started_by=None)


def held(runtime: Runtime) -> set[str]:
    """The keys that are held out."""
    query = select(Digit.key).where(held_out(Digit.key), Digit.label.isnot(None))
    return set(runtime.transact(lambda session: session.execute(query).scalars().all()))


def learnt(data: Dataset) -> dict[bytes, int]:
    """Pixels of the training images, and their labels."""
    return {image.tobytes(): int(label) for image, label in zip(data.train_images, data.train_labels, strict=True)}


def stage(runtime: Runtime, job: uuid.UUID) -> str:
    return str(status(runtime.transact, job)["stage"]["name"])


def backfill(runtime: Runtime) -> None:
    """What workers do of it."""
    query = select(Batch.id).join(Job).where(Batch.state == "queued", Job.kind == "backfill")
    for batch in runtime.transact(lambda session: session.execute(query).scalars().all()):
        embed(batch, runtime)


def test_stored_labels_are_learnt_from_but_those_that_are_held_out(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    judging = held(runtime)
    assert 2 <= len(judging) <= 20
    train(opened(runtime)[1], runtime)
    of_stored = {glyph(at): LABELS[key] for at, key in enumerate(KEYS) if key not in judging}
    assert learnt(room.data) == learnt(SAMPLE) | of_stored
    assert np.array_equal(room.data.test_images, SAMPLE.test_images)


def test_a_picture_that_is_held_out_is_not_learnt_from_under_another_name(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    judging = sorted(held(runtime))
    at = KEYS.index(judging[0])
    twins = [f"twin {number}" for number in range(9)]
    send(runtime.transact, *(item(twin, at, label=LABELS[judging[0]]) for twin in twins))
    image = SAMPLE.train_images[0].tobytes()
    replaced = item(judging[1], 0, label=int(SAMPLE.train_labels[0]))._replace(pixels=image)
    tested = item("of the test", 0, label=int(SAMPLE.test_labels[0]))._replace(pixels=SAMPLE.test_images[0].tobytes())
    send(runtime.transact, replaced, tested)
    train(opened(runtime)[1], runtime)
    known = learnt(room.data)
    assert glyph(at) not in known
    assert image not in known
    assert tested.pixels not in known
    assert SAMPLE.train_images[1].tobytes() in known


def test_the_label_of_a_stored_digit_counts_where_mnist_has_its_pixels(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    key = next(key for key in KEYS if key not in held(runtime))
    other = (int(SAMPLE.train_labels[3]) + 1) % 10
    image = SAMPLE.train_images[3].tobytes()
    send(runtime.transact, item(key, 0, label=other)._replace(pixels=image))
    train(opened(runtime)[1], runtime)
    assert learnt(room.data)[image] == other


def test_judged_pairs_are_learnt_from_but_those_with_a_digit_that_is_held_out(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    judging = held(runtime)
    free = [key for key in KEYS if key not in judging]

    def say(one: str, other: str, same: bool) -> None:
        assert runtime.transact(judgements.record, [Said(("default", one), ("default", other), same)]) == []

    say(free[3], "unlabelled", True)
    say(free[1], free[0], False)
    say(free[5], next(iter(judging)), True)
    job, batch = opened(runtime)
    train(batch, runtime)
    said = room.data.judged
    twins = [(KEYS.index(free[3]), 99), (KEYS.index(free[0]), KEYS.index(free[1]))]
    found = [{one.tobytes(), other.tobytes()} for one, other in zip(said.one, said.other, strict=True)]
    assert found == [{glyph(one), glyph(other)} for one, other in twins]
    assert said.same.tolist() == [True, False]
    tower = status(runtime.transact, job)["outcome"]["tower"]
    query = select(Tower.lineage["judged_pairs"].astext).where(Tower.id == tower)
    assert runtime.transact(lambda session: session.execute(query).scalar_one()) == "2"


def test_stored_digits_alone_are_split_for_the_test(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    labels: dict[str, int | None] = {key: 4711 if at < 20 else 7 for at, key in enumerate(KEYS)}
    runtime.transact(digits.annotate, "default", labels, {})
    runtime.transact(digits.annotate, "default", {KEYS[0]: 9}, {})  # too few of these to learn from
    train(opened(runtime, "stored")[1], runtime)
    images = [*room.data.train_images, *room.data.test_images]
    judging = held(runtime) | {KEYS[0]}
    assert {image.tobytes() for image in images} == {glyph(at) for at, key in enumerate(KEYS) if key not in judging}
    assert set(room.data.train_labels.tolist()) == set(room.data.test_labels.tolist()) == {0, 1}  # of 7 and 4711


def test_labels_of_another_classification_are_refused_beside_mnist(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    key = next(key for key in KEYS if key not in held(runtime))
    runtime.transact(digits.annotate, "default", {key: 4711}, {})
    job, batch = opened(runtime)
    train(batch, runtime)
    found = status(runtime.transact, job)
    assert found["state"] == "failed"
    assert "1 stored digits have labels" in found["message"]
    assert "4711" in found["message"]


def test_nothing_to_learn_from_is_a_sentence(runtime: Runtime, room: Room) -> None:
    job, batch = opened(runtime, "stored")
    train(batch, runtime)
    assert "twinvec label" in status(runtime.transact, job)["message"]
    job, batch = opened(runtime, "both")  # without a label it is MNIST alone
    train(batch, runtime)
    assert room.data is SAMPLE


@pytest.mark.parametrize("page", [7, 20_000])
def test_of_many_labels_no_more_are_read_than_there_is_memory_for(
    runtime: Runtime, room: Room, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(material, "MOST", 25)
    monkeypatch.setattr(examples, "PAGE", page)
    register(runtime.transact)
    store_labelled(runtime)
    train(opened(runtime)[1], runtime)
    assert 10 < len(room.data.train_images) - len(SAMPLE.train_images) < 40


def test_the_stages_follow_each_other_until_the_tower_is_live(runtime: Runtime, room: Room) -> None:
    first = register(runtime.transact)
    store_labelled(runtime)
    job, batch = opened(runtime)
    assert stage(runtime, job) == "waiting"
    seen: list[str] = []
    room.meanwhile = lambda: seen.append(stage(runtime, job))
    train(batch, runtime)
    assert seen == ["training"]
    found = status(runtime.transact, job)
    assert (found["state"], found["stage"]["done"], found["stage"]["total"]) == ("running", 0, 61)
    assert found["outcome"]["status"] == "candidate"
    with pytest.raises(TrainingRunning, match=str(job)):
        start(asked(), runtime)
    with pytest.raises(InvalidRequest, match="twinvec cancel"):
        stop(StopTraining(job=str(job)), runtime)
    backfill(runtime)
    assert stage(runtime, job) == "judging"
    sweep(runtime)
    assert stage(runtime, job) == "judging"
    judge_next(runtime)
    found = status(runtime.transact, job)
    assert (found["state"], found["stage"]["name"], found["outcome"]["status"]) == ("finished", "live", "live")
    assert tower_statuses(runtime.transact) == {found["outcome"]["tower"]: "live", first: "previous"}
    start(asked(), runtime)


def test_a_retraining_ends_when_its_candidate_waits_to_be_promoted(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    runtime.settings = runtime.settings.model_copy(update={"auto_promote": False})
    job, batch = opened(runtime)
    train(batch, runtime)
    backfill(runtime)
    sweep(runtime)
    judge_next(runtime)
    found = status(runtime.transact, job)
    assert (found["state"], found["outcome"]["status"]) == ("finished", "candidate")


def judge_next(runtime: Runtime) -> None:
    """Judge the candidate that is to be judged."""
    judging = select(Batch.id).join(Job).where(Job.kind == "judge", Batch.state == "queued")
    judge(runtime.transact(lambda session: session.execute(judging).scalar_one()), runtime)


def test_a_retraining_whose_tower_is_rejected_says_why(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    job, batch = opened(runtime)
    train(batch, runtime)
    backfill(runtime)
    tower = pass_judging(runtime.transact, passes=False)
    sweep(runtime)
    found = status(runtime.transact, job)
    assert (found["state"], found["outcome"]["status"]) == ("failed", "rejected")
    assert found["message"] == f"tower {tower} was rejected: it was measured"


def test_cancelling_a_retraining_drops_its_candidate(runtime: Runtime, room: Room) -> None:
    first = register(runtime.transact)
    store_labelled(runtime)
    job, batch = opened(runtime)
    train(batch, runtime)
    runtime.transact(cancel_job, job)
    backfill(runtime)
    sweep(runtime)
    assert status(runtime.transact, job)["state"] == "cancelled"
    (candidate,) = tower_statuses(runtime.transact).keys() - {first}
    assert tower_statuses(runtime.transact) == {first: "live", candidate: "rejected"}


def die_after(runtime: Runtime, room: Room, batch: int, state: bytes) -> Dataset:
    """Let a worker die after it has kept a checkpoint; what it learnt from."""

    def die() -> None:
        expire(runtime.transact, batch)
        rescue(runtime.transact)

    room.after, room.meanwhile = state, die
    train(batch, runtime)
    room.after, room.meanwhile = None, lambda: None
    data = room.data
    assert isinstance(data, Dataset)
    return data


def test_another_worker_goes_on_with_the_same_from_the_last_checkpoint(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    job, batch = opened(runtime)
    before = die_after(runtime, room, batch, b"after one epoch")
    assert room.checkpoint is None
    send(runtime.transact, *(item(f"new {at}", 200 + at, label=1) for at in range(20)))
    runtime.transact(digits.annotate, "default", dict.fromkeys(KEYS, 5), {})
    train(batch, runtime)
    assert room.checkpoint == b"after one epoch"
    assert room.data.digest == before.digest
    assert status(runtime.transact, job)["outcome"]["status"] == "candidate"
    assert runtime.transact(lambda session: session.query(Checkpoint).count()) == 0


@pytest.mark.parametrize("kept", [True, False])
def test_a_training_stops_after_a_death_if_it_was_asked_to_and_has_something_to_keep(
    runtime: Runtime, room: Room, kept: bool
) -> None:
    job, batch = opened(runtime)
    if kept:
        die_after(runtime, room, batch, b"after one epoch")
    runtime.transact(trainings.ask_to_stop, job)
    train(batch, runtime)
    assert room.stopped == kept


def test_a_digit_that_was_deleted_meanwhile_is_learnt_from_no_more(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    at, key = next((at, key) for at, key in enumerate(KEYS) if key not in held(runtime))
    _, batch = opened(runtime)
    assert glyph(at) in learnt(die_after(runtime, room, batch, b"after one epoch"))
    runtime.transact(delete.delete, "default", [key])
    train(batch, runtime)
    assert room.checkpoint is None
    assert glyph(at) not in learnt(room.data)


def test_workers_may_die_as_often_as_a_training_gets_on(runtime: Runtime, room: Room) -> None:
    job, batch = opened(runtime)
    for epoch in range(2 * MAX_ATTEMPTS):
        die_after(runtime, room, batch, f"epoch {epoch}".encode())
    assert row(runtime.transact, batch).state == "queued"
    train(batch, runtime)
    assert status(runtime.transact, job)["state"] == "finished"


def test_a_worker_that_lost_its_lease_keeps_nothing(runtime: Runtime, room: Room) -> None:
    job, batch = opened(runtime)
    lease = runtime.claim(batch)
    assert lease is not None
    runtime.transact(trainings.keep_material, lease, digits=[], labels=[], left_out=[], pairs=[], same=[])
    runtime.transact(trainings.keep_state, lease, 1, b"mine")
    runtime.transact(lambda session: session.execute(update(Batch).values(token=uuid.uuid4())))
    with pytest.raises(LeaseLost):
        runtime.transact(trainings.keep_state, lease, 2, b"too late")
    assert runtime.transact(trainings.state, job) == b"mine"


def test_a_tower_knows_what_it_was_made_of(runtime: Runtime, room: Room) -> None:
    register(runtime.transact)
    store_labelled(runtime)
    job, batch = opened(runtime)
    train(batch, runtime)
    tower = status(runtime.transact, job)["outcome"]["tower"]
    query = select(Tower.lineage).where(Tower.id == tower)
    lineage = runtime.transact(lambda session: session.execute(query).scalar_one())
    assert lineage["data"] == "both"
    assert lineage["mnist_digits"] == len(SAMPLE.train_images)
    assert lineage["stored_labels"] == len(KEYS) - len(held(runtime))
    assert lineage["started_by"] == "a test"
    assert {"digest", "judged_pairs", "code", "libraries", "machine", "source"} <= lineage.keys()


def test_the_schedule_says_when_and_what_came_of_it(
    runtime: Runtime, room: Room, broker_url: str, database_url: str
) -> None:
    assert schedule(runtime)["next_at"] is None
    own: dict[str, Any] = {"train_cron": "0 3 * * *", "train_data": "stored"}
    runtime.settings = Settings(broker_url=broker_url, database_url=database_url, **own)
    fields: dict[str, Any] = {"recipe": "notebook", "seed": 1, "started_by": "schedule"}
    job, batch = runtime.transact(trainings.start, uuid.uuid4(), **fields)
    found = schedule(runtime)
    assert found["next_at"][10:19] == "T03:00:00"
    assert (found["data"], found["last_tower"], found["running"]) == ("stored", None, str(job))
    train(batch, runtime)
    assert schedule(runtime)["last_tower"] == status(runtime.transact, job)["outcome"]["tower"]
