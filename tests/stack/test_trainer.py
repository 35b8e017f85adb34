"""A trainer does not grow with its trainings: its process is replaced after some tasks, and nobody notices."""

from collections.abc import Iterator

import pytest

from cli.commands.worker import TASKS
from tests.chaos.fleet import Fleet
from twinvec_client.connection import Connection
from twinvec_client.contract.messages import Probe


@pytest.fixture
def fleet(costly: None) -> Iterator[Fleet]:
    with Fleet({"trainer": "train"}, tower=None) as fleet:
        yield fleet


def test_a_process_that_trains_is_replaced_after_some_tasks_and_every_one_is_done(fleet: Fleet) -> None:
    connection = Connection(fleet.broker.url)
    workers = [connection.ask(Probe(), timeout=30, lane="train")["worker"] for _ in range(TASKS + 2)]
    first, last = workers[0], workers[-1]
    assert workers == [first] * TASKS + [last] * 2
    assert first != last
    assert fleet.members["trainer"].starts == 1, "the worker itself goes on"
