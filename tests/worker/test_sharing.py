"""New digits come first, and a backfill gets its share of the time while they wait."""

from typing import Any

import pytest
from kombu import Connection

from worker.celeryconfig import celery_config
from worker.settings import Settings
from worker.sharing import SharedCycle

TOOK = {"embed": 0.3, "backfill": 0.04, "query": 0.01}  # seconds


class Worker:
    """One that takes the first lane of the order on which something waits, and works for as long as that takes."""

    def __init__(self, *lanes: str, share: float = 0.125) -> None:
        self.now = 0.0
        self.cycle = SharedCycle(share, lambda: self.now)
        self.cycle.update(lanes)
        self.count = len(lanes)

    def spend(self, seconds: float, *waiting: str) -> dict[str, float]:
        """Work for so long; the share of that time for each lane."""
        start, spent = self.now, dict.fromkeys(waiting, 0.0)
        while self.now < start + seconds:
            lane = next(each for each in self.cycle.consume(self.count) if each in waiting)
            self.cycle.rotate(lane)
            self.now += TOOK[lane]
            spent[lane] += TOOK[lane]
        return {lane: each / (self.now - start) for lane, each in spent.items()}


@pytest.mark.parametrize("share", [0.125, 0.2])
def test_a_backfill_gets_its_share_of_the_time_while_new_digits_wait(share: float) -> None:
    spent = Worker("backfill", "embed", share=share).spend(300, "embed", "backfill")
    assert spent["backfill"] == pytest.approx(share, abs=0.02)


def test_a_backfill_gets_all_of_the_time_while_nothing_else_waits() -> None:
    assert Worker("embed", "backfill").spend(10, "backfill") == {"backfill": pytest.approx(1)}


def test_new_digits_come_first_after_a_backfill_that_was_alone() -> None:
    worker = Worker("embed", "backfill")
    worker.spend(10, "backfill")
    assert worker.spend(5, "embed", "backfill")["embed"] == pytest.approx(1, abs=0.05)


def test_other_lanes_take_turns_with_both() -> None:
    spent = Worker("query", "embed", "backfill").spend(300, "query", "embed", "backfill")
    assert spent["query"] > 0.01
    assert spent["backfill"] / (spent["embed"] + spent["backfill"]) == pytest.approx(0.125, abs=0.02)


def test_an_idle_process_owes_a_backfill_little() -> None:
    worker = Worker("embed", "backfill")
    for _ in range(100):
        worker.cycle.rotate("embed")
        worker.now += 3600
    taken = [worker.spend(0.001, "embed", "backfill")["embed"] for _ in range(10)]
    assert any(taken[:6])


def test_the_lanes_of_a_worker_take_turns_by_the_share_that_is_set(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINVEC_BACKFILL_SHARE", "0.25")
    options = celery_config(Settings())["broker_transport_options"]
    with Connection(broker_url, transport_options=options) as connection:
        channel: Any = connection.default_channel
        channel._queue_cycle.update(["backfill", "embed"])
        assert channel._queue_cycle.consume(2) == ["embed", "backfill"]
        assert channel._queue_cycle._rate == pytest.approx(1 / 3)
