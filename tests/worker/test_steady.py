"""The scheduler sends in intervals, whatever happens to the machine's clock."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab

from worker import steady


class Clock:
    """What the scheduler reads: the machine's clock, which may be set, and the one that may not."""

    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    steady = 1000.0

    def monotonic(self) -> float:
        return self.steady

    def go_on(self, seconds: float) -> None:
        self.steady += seconds
        self.now += timedelta(seconds=seconds)


class Sending(steady.SteadyScheduler):
    """Notes what it sends."""

    sent: list[str]

    def apply_async(self, entry: Any, *_: Any, **__: Any) -> Any:
        self.sent.append(entry.name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(steady, "time", clock)
    return clock


@pytest.fixture
def beat(clock: Clock) -> Sending:
    app: Any = Celery(broker="memory://", set_as_current=False)
    app.now = lambda: clock.now
    app.conf.timezone = "UTC"
    app.conf.beat_schedule = {
        "sweep": {"task": "sweep", "schedule": 5.0},
        "prune": {"task": "prune", "schedule": 600.0},
        "retrain": {"task": "retrain", "schedule": crontab(minute=30, hour=12, nowfun=lambda: clock.now)},
    }
    scheduler = Sending(app)
    scheduler.sent = []
    scheduler.schedule.pop("celery.backend_cleanup", None)
    return scheduler


@pytest.mark.parametrize("hours", [-24 * 3650, -1, 0, 1, 24 * 3650])
def test_sweeps_go_on_when_the_clock_is_set(beat: Sending, clock: Clock, hours: float) -> None:
    beat.tick()
    clock.now += timedelta(hours=hours)
    for _ in range(130):
        assert beat.tick() <= 5
        clock.go_on(5)
    assert 128 <= beat.sent.count("sweep") <= 130
    assert beat.sent.count("prune") == 1


def test_a_time_of_day_is_the_machines(beat: Sending, clock: Clock) -> None:
    for _ in range(2 * 60):
        beat.tick()
        clock.go_on(60)
    assert beat.sent.count("retrain") == 1


def test_it_asks_again_when_the_next_is_due(beat: Sending, clock: Clock) -> None:
    assert beat.tick() == pytest.approx(5)
    clock.go_on(3)
    assert beat.tick() == pytest.approx(2)
    assert time.monotonic() != clock.monotonic()
