"""Which lanes a worker does not read for a while, as a note in the broker: SQL says what is paused, and every sweep
writes it anew. It must not know the ledger.

A paused lane of batches is read on: its messages only wake, and no batch of it can be claimed. A chunk of pictures is
work itself, and stays in the broker.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from twinvec_client.contract.broker import KEY_PREFIX

NOT_READ = ("intake",)  # of the lanes that may be paused
KEY = "paused"  # after the prefix: a JSON list of lanes
APPLIED_EVERY = 1.0  # seconds
_LOST = 4.0  # seconds without being applied: a lost connection has taken the timer along


def write(broker: Any, lanes: Collection[str], keys: str = KEY_PREFIX) -> None:
    """Note which lanes are not to be read. Raises RedisError."""
    if held := sorted(set(lanes) & set(NOT_READ)):
        broker.set(keys + KEY, json.dumps(held))
    else:
        broker.delete(keys + KEY)


def read(broker: Any, keys: str = KEY_PREFIX) -> frozenset[str]:
    """The lanes that are not to be read. Raises RedisError."""
    try:
        noted = json.loads(broker.get(keys + KEY) or "[]")
    except ValueError:  # not a note of ours; the next sweep writes one
        return frozenset()
    return frozenset(noted) & set(NOT_READ) if isinstance(noted, list) else frozenset()


class ReadLanes:
    """The lanes that a worker's consumer reads: all of its own, but those that are held.

    What is to be held is said from any thread, and done in that of the consumer's event loop.
    """

    def __init__(self, consumer: Any, lanes: Sequence[str]) -> None:
        self._consumer, self._lanes = consumer, lanes
        self._held: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._applied_at = 0.0

    @property
    def names(self) -> list[str]:
        """That are to be read now."""
        return [lane for lane in self._lanes if lane not in self._held]

    def hold(self, held: frozenset[str]) -> None:
        """Say which lanes are not to be read, in place of what was said before."""
        with self._lock:
            self._held = held
        hub = self._consumer.hub
        if hub is not None and time.monotonic() - self._applied_at > _LOST:
            self._applied_at = time.monotonic()
            hub.call_soon(lambda: hub.call_repeatedly(APPLIED_EVERY, self.apply))

    def apply(self) -> None:
        """Begin and cease to read lanes. To be called in the consumer's thread."""
        self._applied_at = time.monotonic()
        reading, queues = self._consumer.task_consumer, self._consumer.app.amqp.queues
        if reading is None:  # it has lost the broker, and reads again what is selected
            return
        for lane in self._lanes:
            if lane in self._held and reading.consuming_from(lane):
                self._consumer.cancel_task_queue(lane)
            elif lane not in self._held and not reading.consuming_from(lane):
                queues.select_add(queues[lane])
                self._consumer.add_task_queue(lane)
