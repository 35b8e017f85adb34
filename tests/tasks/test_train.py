"""A training registers its tower with the end of its job, or says why not; one goes at a time.

The network is a stand-in: what is tested is the ledger around it.
"""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from db.errors import TrainingRunning
from db.queue import trainings
from db.queue.cancel import cancel_job
from db.tables import Batch
from tasks.answering import InvalidRequest
from tasks.lifecycle import retrain, start
from tasks.train import train
from tests.makers import MAX_ATTEMPTS, expire, fitted, item, rescue, send, status, tower_statuses
from training.data.mnist import read_npz
from training.fit.progress import Progress
from twinvec_client.contract.messages import BadMessage, RetrainOnSchedule, StartTraining
from worker.runtime import Runtime
from worker.settings import Settings

SAMPLE = read_npz(Path(__file__).parents[1] / "data" / "mnist-sample.npz")


class Room:
    """Stands where `training.fit.train` does: one epoch, during which something may happen.

    data, checkpoint: what the last training was given; stopped: whether it was asked to stop. after: what it keeps
    after its epoch.
    """

    def __init__(self) -> None:
        self.meanwhile: Callable[[], Any] = lambda: None
        self.data: Any = None
        self.checkpoint: bytes | None = None
        self.after: bytes | None = None
        self.stopped = False

    def train(
        self,
        recipe: Any,
        data: Any,
        *,
        seed: int,
        on_progress: Callable[[Any], None],
        on_checkpoint: Callable[[int, bytes], None],
        checkpoint: bytes | None,
        should_stop: Callable[[], bool],
        **_: Any,
    ) -> Any:
        self.data, self.checkpoint = data, checkpoint
        if self.after is not None:
            on_checkpoint(1, self.after)
        on_progress(Progress(1, 1, 1, 2, {"loss": 0.5}, 1.0, 1.0))
        self.meanwhile()
        on_progress(Progress(1, 1, 2, 2, {"loss": 0.1}, 2.0, 0.0))
        self.stopped = should_stop()
        return fitted(f"{recipe.name} {seed}")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """The stand-in, and a few digits in the place of MNIST."""
    room = Room()
    monkeypatch.setitem(sys.modules, "training.fit.train", room)
    monkeypatch.setattr("training.data.mnist.load", lambda path: SAMPLE)
    return room


def started(runtime: Runtime, seed: int = 0) -> tuple[uuid.UUID, int]:
    return runtime.transact(trainings.start, uuid.uuid4(), recipe="notebook", seed=seed)


def asked(recipe: Any = "notebook", seed: Any = 0, job: str | None = None) -> StartTraining:
    return StartTraining(job=job or str(uuid.uuid4()), recipe=recipe, seed=seed, callback=None, started_by=None)


def test_a_training_registers_its_tower_and_ends_its_job_with_it(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)
    shown: list[Any] = []
    room.meanwhile = lambda: shown.append(status(runtime.transact, job))
    train(batch, runtime)
    assert (shown[0]["state"], shown[0]["progress"]["step"]) == ("running", 1)
    found = status(runtime.transact, job)
    assert found["state"] == "finished"
    assert found["outcome"]["status"] == "live"
    assert tower_statuses(runtime.transact) == {found["outcome"]["tower"]: "live"}


def test_digits_that_waited_are_published_after_the_first_training(runtime: Runtime, room: Room, broker: Redis) -> None:
    send(runtime.transact, item("a", 1))
    runtime.transact(lambda session: session.query(Batch).update({"published_at": None}))
    train(started(runtime)[1], runtime)
    assert broker.llen("twinvec:embed") == 1


def test_the_tower_of_a_second_training_is_a_candidate(runtime: Runtime, room: Room) -> None:
    for seed, expected in ((0, "live"), (1, "candidate")):
        job, batch = started(runtime, seed)
        send(runtime.transact, item("a", 1))
        room.meanwhile = lambda: None
        train(batch, runtime)
        assert status(runtime.transact, job)["outcome"]["status"] == expected


def test_a_training_that_fails_says_why_in_a_sentence(runtime: Runtime, room: Room) -> None:
    def fail() -> None:
        raise MemoryError("no room on the card\nand a second line")

    job, batch = started(runtime)
    room.meanwhile = fail
    train(batch, runtime)
    found = status(runtime.transact, job)
    assert (found["state"], found["message"]) == ("failed", "MemoryError: no room on the card")
    assert tower_statuses(runtime.transact) == {}
    started(runtime)


@pytest.mark.parametrize("setting", ["mnist", "data"])
def test_a_training_without_its_data_says_so(
    runtime: Runtime, broker_url: str, database_url: str, tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "training.fit.train", Room())
    own: dict[str, Any] = {setting: tmp_path / "nothing.npz"}
    runtime.settings = Settings(broker_url=broker_url, database_url=database_url, **own)
    job, batch = started(runtime)
    train(batch, runtime)
    found = status(runtime.transact, job)
    assert found["state"] == "failed"
    assert "nothing.npz" in found["message"]


def test_a_fenced_training_leaves_no_tower(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)

    def lose_the_lease() -> None:
        expire(runtime.transact, batch)
        rescue(runtime.transact)

    room.meanwhile = lose_the_lease
    train(batch, runtime)
    assert tower_statuses(runtime.transact) == {}
    assert status(runtime.transact, job)["state"] == "queued"
    room.meanwhile = lambda: None
    train(batch, runtime)
    assert status(runtime.transact, job)["state"] == "finished"


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancelled_training_leaves_no_tower(runtime: Runtime, room: Room, fails: bool) -> None:
    job, batch = started(runtime)

    def cancel() -> None:
        runtime.transact(cancel_job, job)
        if fails:
            raise ValueError("the network exploded")

    room.meanwhile = cancel
    train(batch, runtime)
    assert tower_statuses(runtime.transact) == {}
    assert (status(runtime.transact, job)["state"], status(runtime.transact, job)["message"]) == ("cancelled", None)


def test_a_message_for_a_training_that_ended_trains_nothing(runtime: Runtime, room: Room) -> None:
    _, batch = started(runtime)
    train(batch, runtime)
    train(batch, runtime)
    assert len(tower_statuses(runtime.transact)) == 1


def test_a_training_whose_process_dies_again_and_again_is_given_up(runtime: Runtime) -> None:
    job, batch = started(runtime)
    for _ in range(MAX_ATTEMPTS):
        assert runtime.claim(batch) is not None
        expire(runtime.transact, batch)
        rescue(runtime.transact)
    assert status(runtime.transact, job)["state"] == "failed"


def test_starting_publishes_the_training_and_a_second_one_is_refused(runtime: Runtime, broker: Redis) -> None:
    job = start(asked(seed=3), runtime)
    assert broker.llen("twinvec:train") == 1
    with pytest.raises(TrainingRunning, match=job):
        start(asked(seed=4), runtime)


def test_a_request_that_comes_twice_starts_one_training(runtime: Runtime) -> None:
    """Its first answer may have been lost."""
    request = asked()
    assert start(request, runtime) == start(request, runtime) == request.job


@pytest.mark.parametrize(
    ("recipe", "seed"),
    [("no such", 0), (["notebook"], 0), (None, 0), ("notebook", -1), ("notebook", 2**32), ("notebook", "1")],
)
def test_a_training_that_cannot_be_is_refused(runtime: Runtime, recipe: Any, seed: Any) -> None:
    with pytest.raises((BadMessage, InvalidRequest)):
        start(StartTraining.read(asked(recipe, seed).write()), runtime)


def test_the_schedule_leaves_it_where_a_training_is_under_way(runtime: Runtime, broker: Redis) -> None:
    retrain(RetrainOnSchedule(recipe="notebook", data="both"), runtime)
    retrain(RetrainOnSchedule(recipe="notebook", data="both"), runtime)
    assert broker.llen("twinvec:train") == 1
