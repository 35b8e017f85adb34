"""Celery's consumer, which here gathers its events for a moment before it sends them.

Celery sends them at the next turn of the loop that takes messages, and so almost each by itself: where pictures come
one by one, that was half of the loop's work. It must not know what is consumed.
"""

from __future__ import annotations

import time
from typing import Any

from celery.worker import consumer

EVERY = 0.5  # seconds between two that are sent, but where 24 events are waiting: then Celery sends them


class Consumer(consumer.Consumer):
    """Of a worker whose events nobody needs within a moment."""

    hub: Any
    _flush_events: Any
    _gathering_until = 0.0  # by `time.monotonic()`

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # Celery's types say otherwise
        now = time.monotonic()
        if self.hub and now >= self._gathering_until:
            self._gathering_until = now + EVERY
            self.hub.call_later(EVERY, self._flush_events)
