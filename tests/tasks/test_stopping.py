"""A training that is asked to stop ends at its next report, and its tower stands like any other."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.errors import UnknownJob
from db.queue import jobs, trainings
from tasks.answering import InvalidRequest
from tasks.lifecycle import stop
from tasks.train import train
from tests.makers import expire, fitted, item, rescue, send, status
from training.data.mnist import read_npz
from training.fit.progress import Progress
from twinvec_client.contract.messages import StopTraining
from worker.runtime import Runtime

SAMPLE = read_npz(Path(__file__).parents[1] / "data" / "mnist-sample.npz")


class Room:
    """Stands where `training.fit.train` does: it trains until it is asked to stop, and counts its reports."""

    def __init__(self) -> None:
        self.reports = 0
        self.after: dict[int, Callable[[], Any]] = {}  # what happens after which report

    def train(
        self,
        recipe: Any,
        data: Any,
        *,
        seed: int,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        **_: Any,
    ) -> Any:
        while not should_stop():
            self.reports += 1
            assert self.reports < 100, "nobody stopped it"
            on_progress(Progress(1, 9, self.reports, 100, {"loss": 0.5}, 1.0, 1.0))
            self.after.pop(self.reports, lambda: None)()
        return fitted(f"{recipe.name} {seed}")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """The stand-in, and a few digits in the place of MNIST."""
    room = Room()
    monkeypatch.setitem(sys.modules, "training.fit.train", room)
    monkeypatch.setattr("training.data.mnist.load", lambda path: SAMPLE)
    return room


def started(runtime: Runtime) -> tuple[uuid.UUID, int]:
    return runtime.transact(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)


def ask(runtime: Runtime, job: uuid.UUID) -> dict[str, Any]:
    return stop(StopTraining(job=str(job)), runtime)


def test_a_training_stops_at_the_report_after_it_was_asked_to(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)
    room.after[2] = lambda: ask(runtime, job)
    train(batch, runtime)
    assert room.reports == 3
    found = status(runtime.transact, job)
    assert (found["state"], found["outcome"]["status"]) == ("finished", "live")


def test_a_training_that_ended_is_left_as_it_is(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)
    room.after[1] = lambda: ask(runtime, job)
    train(batch, runtime)
    ended = status(runtime.transact, job)
    assert ask(runtime, job)["state"] == "finished"
    assert status(runtime.transact, job) == ended


def test_a_training_that_has_not_begun_cannot_be_stopped(runtime: Runtime) -> None:
    job, _ = started(runtime)
    with pytest.raises(InvalidRequest, match="twinvec cancel"):
        ask(runtime, job)
    send(runtime.transact, item("a", 1))
    listed = runtime.transact(jobs.latest, limit=2)
    embedding = next(uuid.UUID(found.id) for found in listed if found.kind == "embed")
    with pytest.raises(InvalidRequest, match="not a training"):
        ask(runtime, embedding)
    with pytest.raises(UnknownJob):
        stop(StopTraining(job=str(uuid.uuid4())), runtime)


def test_a_training_that_is_started_over_does_not_stop_for_what_was_asked_before(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)
    assert runtime.claim(batch) is not None
    runtime.transact(trainings.ask_to_stop, job)
    expire(runtime.transact, batch)
    rescue(runtime.transact)
    room.after[3] = lambda: ask(runtime, job)
    train(batch, runtime)
    assert room.reports == 4


def test_a_training_that_was_started_over_says_so(runtime: Runtime, room: Room) -> None:
    job, batch = started(runtime)
    assert runtime.claim(batch) is not None
    expire(runtime.transact, batch)
    rescue(runtime.transact)
    room.after[1] = lambda: ask(runtime, job)
    train(batch, runtime)
    progress = status(runtime.transact, job)["progress"]
    assert (progress["attempt"], progress["step"]) == (2, 2)
