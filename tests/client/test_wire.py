"""Messages and their answers over one connection, by either protocol of Redis, lost and late ones among them."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.makers import eventually
from twinvec_client.connection import _application
from twinvec_client.wire import Wire

LANE = "lane"


class Worker:
    """Stands on the other side of a broker."""

    def __init__(self, broker: "redis.Redis", backend: Any) -> None:
        self._broker, self._backend = broker, backend

    def take(self) -> str:
        """The next message."""
        popped: Any = self._broker.brpop([LANE], 10)
        assert popped is not None
        return str(json.loads(popped[1]))

    def store(self, id: str, said: str) -> None:
        self._broker.set(self._backend.get_key_for_task(id), self._answer(id, said), ex=60)

    def publish(self, id: str, said: str) -> int:
        """How many heard it."""
        return int(self._broker.publish(self._backend.get_key_for_task(id), self._answer(id, said)))

    def publish_to(self, id: str) -> None:
        assert self.publish(id, f"to {id}") == 1

    def heard(self, id: str) -> int:
        """How many listen for an answer."""
        ((_, count),) = self._broker.pubsub_numsub(self._backend.get_key_for_task(id))
        return int(count)

    def _answer(self, id: str, said: str) -> Any:
        return self._backend.encode({"status": "SUCCESS", "result": {"said": said}, "task_id": id})


@pytest.fixture(params=[2, 3], ids=lambda protocol: f"protocol {protocol}")
def backend(request: pytest.FixtureRequest, broker_url: str) -> Any:
    backend: Any = _application(broker_url, "here:").backend
    backend.connparams["protocol"] = request.param
    return backend


@pytest.fixture
def wire(backend: Any) -> Iterator[Wire]:
    wire = Wire(backend)
    yield wire
    wire.close()


@pytest.fixture
def worker(broker: "redis.Redis", backend: Any) -> Worker:
    return Worker(broker, backend)


def ask(wire: Wire, id: str, *, seconds: float = 10, again: bool = False) -> Any:
    answer = wire.ask(id, LANE, json.dumps(id), seconds=seconds, again=again, on_interval=None)
    return None if answer is None else answer["result"]["said"]


def asked(wire: Wire, id: str, work: Callable[[], None]) -> Any:
    """What it is answered while another thread does the work."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    answer = ask(wire, id)
    thread.join()
    assert not failed
    return answer


def test_each_message_is_answered_by_its_own_answer(wire: Wire, worker: Worker) -> None:
    def work() -> None:
        id = worker.take()
        for other in ("before", id):
            worker.publish(other, f"to {other}")

    assert [asked(wire, id, work) for id in ("one", "two", "three")] == ["to one", "to two", "to three"]
    assert worker.heard("one") == worker.heard("two") == 0


def test_whoever_finds_the_message_finds_that_its_answer_is_listened_for(wire: Wire, worker: Worker) -> None:
    def work() -> None:
        id = worker.take()
        assert worker.heard(id) == 1
        worker.publish(id, "heard")

    for id in map(str, range(20)):
        assert asked(wire, id, work) == "heard"


@pytest.mark.parametrize("late", [True, False], ids=["answered later", "answered meanwhile"])
def test_an_answer_is_found_over_a_connection_that_was_lost(
    wire: Wire, worker: Worker, broker: "redis.Redis", late: bool
) -> None:
    def work() -> None:
        id = worker.take()
        broker.client_kill_filter(_type="pubsub")
        if late:
            eventually(lambda: worker.heard(id) == 1, "somebody who listens again")
            worker.publish(id, "found")
        else:  # published to nobody
            worker.store(id, "found")

    assert asked(wire, "one", work) == "found"
    assert asked(wire, "two", lambda: worker.publish_to(worker.take())) == "to two"


def test_what_was_answered_before_it_is_asked_again_is_found(wire: Wire, worker: Worker) -> None:
    worker.store("one", "stored")
    assert ask(wire, "one", again=True) == "stored"
    assert worker.take() == "one"


def test_nobody_listens_any_more_once_the_time_is_over(wire: Wire, worker: Worker) -> None:
    assert ask(wire, "one", seconds=0.1) is None
    eventually(lambda: worker.heard("one") == 0, "the end of the subscription")
    assert worker.take() == "one"


def test_a_connection_that_the_broker_has_closed_meanwhile_is_opened_anew(
    wire: Wire, worker: Worker, broker: "redis.Redis"
) -> None:
    def work() -> None:
        worker.publish(worker.take(), "heard")

    assert asked(wire, "one", work) == "heard"
    broker.client_kill_filter(_type="pubsub")
    assert asked(wire, "two", work) == "heard"
