"""Ends a worker whose consumer has stalled: alive and idle, while messages wait on its lanes.

Celery's consumer over Redis can lose its connection without noticing, for instance when the broker dies during an
acknowledgement: it then waits for ever on a dead socket. A new process is the remedy, so the worker exits, and its
supervisor starts another. So it does where the lanes have become another installation's. Nothing is lost: the ledger is
in SQL, whose tables this file must not know.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import redis
from celery.worker import state

from twinvec_client.contract.broker import key_prefix
from worker import held, installation, roster
from worker.broker import connect_broker
from worker.held import ReadLanes
from worker.settings import Settings
from worker.transport import Withheld

log = logging.getLogger(__name__)

EVERY = 2.0  # seconds between two checks
# Checks in a row that find messages waiting and the worker idle. On a busy machine fewer pass while silent connections
# are found and opened anew, and a process that is started instead takes longer than that.
LOOKS = 8
STALLED = 75  # exit status
LISTENING = "listening:"  # + a lane, after the prefix: a key that exists while a worker consumes it


class Answered:
    """When the broker last answered the watchdog, by `time.monotonic()`; 0: not yet."""

    at = 0.0


BROKER = Answered()  # of this process's


@dataclass
class StallDetector:
    """Counts the checks at which messages wait and no message was taken since the check before."""

    waiting: Callable[[], int]  # messages on the worker's lanes
    busy: Callable[[], bool]  # whether the worker holds a message
    done: Callable[[], int]  # messages it took since it started
    _silent: int = 0
    _seen: int = -1

    def is_stalled(self) -> bool:
        """Check once; True when enough checks in a row found the consumer stalled."""
        done = self.done()
        stalled = done == self._seen and not self.busy() and self.waiting() > 0
        self._seen = done
        self._silent = self._silent + 1 if stalled else 0
        return self._silent >= LOOKS


def watch_consumer(
    settings: Settings,
    lanes: Sequence[str],
    *,
    describe: Callable[[], roster.Note] | None = None,
    reading: ReadLanes | None = None,
) -> threading.Event:
    """Check every few seconds, from a thread, and mark the lanes as consumed; exit if the consumer has stalled, or
    consumes another installation's lanes.

    describe: what is noted of this worker each time; None for nothing. reading: told each time which of the lanes are
    not to be read, and once before the thread begins. Setting what is returned ends the watch.
    """
    server = connect_broker(settings.guarded_broker(), socket_timeout=3, socket_connect_timeout=3)
    keys = key_prefix(settings.lane_prefix())

    def waiting() -> int:
        try:
            return sum(server.llen(keys + lane) for lane in (lanes if reading is None else reading.names))
        except redis.RedisError:  # no broker: nothing can wait there
            return 0

    def announce() -> None:
        with suppress(redis.RedisError):
            check_owner(server, settings)
            for lane in lanes:
                server.set(f"{keys}{LISTENING}{lane}", 1, ex=int(4 * EVERY))
            BROKER.at = time.monotonic()
            if reading is not None:
                reading.hold(held.read(server, keys))
            if describe is not None:
                roster.write(server, describe(), keys)

    detector = StallDetector(waiting, busy=lambda: bool(state.reserved_requests), done=taken)

    ended = threading.Event()
    if reading is not None:
        with suppress(redis.RedisError):
            reading.hold(held.read(server, keys))
        reading.apply()

    def watch() -> None:
        announce()
        while not ended.wait(EVERY):
            if detector.is_stalled():
                log.critical(
                    "stalled: messages wait on %s and none arrives; exiting, to be started again", ", ".join(lanes)
                )
                os._exit(STALLED)
            announce()
        if describe is not None:
            with suppress(redis.RedisError):
                roster.leave(server, keys)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    return ended


def taken() -> int:
    """Messages that this process has taken off its lanes."""
    return sum(state.total_count.values()) + Withheld.count


def check_owner(server: redis.Redis, settings: Settings) -> None:
    """Exit where the lanes are another installation's; those of a broker that was emptied become this one's again."""
    mine, prefix = installation.own(settings), settings.lane_prefix()
    if mine is None:
        return
    theirs = installation.claim(server, prefix, mine)
    if theirs not in (None, mine):
        log.critical("exiting: %s", installation.fault(theirs or "", mine, prefix))
        os._exit(STALLED)
