"""Figures of the whole installation, from the ledger and the broker, looked up every few seconds by one kind of worker:
the one that serves `control`. What is asked for is what was looked up last, so that a silent server holds up nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import redis
from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from db.engine import connect, transact_once
from db.errors import first_line
from db.queue.figures import Figures, figures
from db.states import JobKind, TowerStatus
from twinvec_client.contract.broker import LANES, key_prefix
from worker.beats import running
from worker.broker import connect_broker
from worker.metrics import gauge, info
from worker.settings import NoDatabase, Settings
from worker.transport import SET_ASIDE
from worker.watchdog import LISTENING

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two looks, or what follows where that is more:
RESTED = 50  # times as long as a look took: they take 2 % of the time at most
STALE = 30.0  # seconds after which what was looked up is told no more, or `RESTED` looks

T = TypeVar("T")


class Lanes(NamedTuple):
    """What the broker says. waiting: messages by lane. listening: lanes that a worker listens to."""

    waiting: dict[str, int]
    listening: set[str]
    schedulers: int
    set_aside: int


class Repeated(Generic[T]):
    """What a function returned last: it is called again and again from a thread, and may take its time.

    make: makes the function, again after each error.
    """

    def __init__(self, what: str, make: Callable[[], Callable[[], T]]) -> None:
        self._what, self._make = what, make
        self._latest: T | None = None
        self._until = 0.0  # when the latest is stale, by `time.monotonic()`

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"figures of the {self._what}", daemon=True).start()

    def latest(self) -> T | None:
        """None where there is none, or it is stale."""
        return self._latest if time.monotonic() < self._until else None

    def _run(self) -> None:
        look, stop, failing = None, threading.Event(), False
        while True:
            begun = time.monotonic()
            try:
                look = look or self._make()
                self._latest = look()
            except (SQLAlchemyError, redis.RedisError, NoDatabase, OSError) as error:
                if not failing:
                    log.warning("no figures of the %s: %s", self._what, first_line(error))
                failing = True
            else:
                failing = False
                took = time.monotonic() - begun
                self._until = time.monotonic() + max(STALE, 2 * RESTED * took)
            stop.wait(max(EVERY, RESTED * (time.monotonic() - begun) if not failing else EVERY))


class Installation(Collector):
    """Looks at each server from a thread of its own, once `start` is called."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger = Repeated("database", self._of_ledger)
        self._broker = Repeated("broker", self._of_broker)

    def start(self) -> None:
        self._ledger.start()
        self._broker.start()

    def collect(self) -> Iterator[Metric]:
        found, lanes = self._ledger.latest(), self._broker.latest()
        yield gauge("twinvec_ledger_up", "1 where the database has given its figures lately", found is not None)
        yield gauge("twinvec_broker_up", "1 where the broker has given its figures lately", lanes is not None)
        if found is not None:
            yield from told_of_ledger(found)
        if lanes is not None:
            yield from told_of_broker(lanes)

    def _of_ledger(self) -> Callable[[], Figures]:
        engine = connect(self._settings.require_database(), statement_limit=self._settings.statement_timeout)
        return partial(transact_once, engine, figures)

    def _of_broker(self) -> Callable[[], Lanes]:
        keys = key_prefix(self._settings.lane_prefix())
        broker = connect_broker(self._settings.guarded_broker(), socket_timeout=5, socket_connect_timeout=3)

        def look() -> Lanes:
            return Lanes(
                waiting={lane: int(broker.llen(keys + lane)) for lane in LANES},
                listening={lane for lane in LANES if broker.get(f"{keys}{LISTENING}{lane}") is not None},
                schedulers=len(running(broker, keys)),
                set_aside=int(broker.llen(keys + SET_ASIDE)),
            )

        return look


def told_of_ledger(found: Figures) -> Iterator[Metric]:
    """What the ledger says, as metrics."""
    yield gauge("twinvec_backlog_digits", "Digits accepted and not yet embedded", found.batches[JobKind.EMBED].digits)
    batches = GaugeMetricFamily("twinvec_batches", "Open batches, by kind and state", labels=["kind", "state"])
    oldest = GaugeMetricFamily(
        "twinvec_oldest_batch_seconds",
        "Since the oldest batch that is queued was made; 0 where none is",
        labels=["kind"],
    )
    for kind, each in found.batches.items():
        batches.add_metric([kind, "queued"], each.queued)
        batches.add_metric([kind, "leased"], each.leased)
        oldest.add_metric([kind], each.oldest)
    yield batches
    yield oldest
    yield gauge("twinvec_dead_batches", "Batches that were given up; `twinvec dead` lists them", found.dead)
    due = GaugeMetricFamily(
        "twinvec_vectors_due", "Vectors that wait to be computed, by the tower", labels=["tower", "status"]
    )
    for tower in found.towers:
        due.add_metric([str(tower.id), tower.status], tower.due)
        if tower.status == TowerStatus.LIVE:
            told = {"tower": str(tower.id), "fingerprint": tower.fingerprint[:12], "recipe": tower.recipe}
            yield info("twinvec_live_tower", "The tower that answers queries", told)
    yield due
    yield gauge("twinvec_live_towers", "Towers that are live: 1, or 0 before the first", _live(found))
    yield gauge(
        "twinvec_canary_worst_difference",
        "By which stored vectors differ from what the machines compute now, at most; above 1e-5 is an alarm",
        found.canary,
    )
    yield gauge("twinvec_canary_age_seconds", "Since stored vectors were last computed again", found.checked)
    yield gauge("twinvec_drift_looked_at_digits", "New digits of the last day that were looked at", found.looked_at)
    yield gauge("twinvec_drift_far_digits", "Those of them that are far from all that was stored", found.far)


def told_of_broker(lanes: Lanes) -> Iterator[Metric]:
    """What the broker says, as metrics."""
    waiting = GaugeMetricFamily("twinvec_lane_waiting", "Messages that wait on a lane", labels=["lane"])
    listening = GaugeMetricFamily("twinvec_lane_listening", "1 where a worker listens to the lane", labels=["lane"])
    for lane in LANES:
        waiting.add_metric([lane], lanes.waiting[lane])
        listening.add_metric([lane], lane in lanes.listening)
    yield waiting
    yield listening
    yield gauge("twinvec_schedulers", "Schedulers (`beat`) that run", lanes.schedulers)
    yield gauge("twinvec_set_aside_messages", "Messages kept that were not admitted, 100 at most", lanes.set_aside)


def _live(found: Figures) -> int:
    return sum(1 for tower in found.towers if tower.status == TowerStatus.LIVE)
