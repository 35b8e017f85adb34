"""Says that a worker is there, as Flower and other readers of Celery's events expect it.

Celery's own heartbeat is sent from the loop that takes messages, and tries without end while the broker is away: that
loop would wait for it. It must not know what is worked on.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any

from celery.utils.sysinfo import load_average
from celery.worker import state
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds; readers take a worker for gone after twice that


def announce(app: Any, hostname: str) -> threading.Event:
    """Send `worker-online` and heartbeats from a thread, best effort. Setting what is returned ends it."""
    ended = threading.Event()

    def run() -> None:
        kind = "worker-online"
        while True:
            with suppress(OperationalError, RedisError, OSError):  # the next may come through
                with app.connection_for_write() as connection:
                    send(app, connection, hostname, kind)
                kind = "worker-heartbeat"
            if ended.wait(EVERY):
                return

    threading.Thread(target=run, name="events", daemon=True).start()
    return ended


def send(app: Any, connection: Any, hostname: str, kind: str) -> None:
    """Send one of them. Raises kombu's OperationalError, redis's RedisError."""
    told = {
        "freq": EVERY,
        "active": len(state.active_requests),
        "processed": sum(state.total_count.values()),
        "loadavg": load_average(),
        **state.SOFTWARE_INFO,
    }
    with app.events.Dispatcher(connection, hostname=hostname, groups=["worker"], buffer_while_offline=False) as events:
        events.send(kind, **told)
