"""The scheduler that `beat` runs: the steady one, which also notes when it last looked and sent.

It must not know what is sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.registry import Collector

from worker.metrics import MAIN, SENT, build, gauge, info
from worker.monitor import SILENT, listen, resident_memory
from worker.settings import Settings
from worker.steady import SteadyScheduler


class Noted:
    """When the scheduler of this process last did something, by `time.monotonic()`; 0: not yet."""

    looked = 0.0
    sent = 0.0


NOTED = Noted()


class NotingScheduler(SteadyScheduler):
    """Named to `app.Beat`."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        NOTED.looked = time.monotonic()
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            sent = super().apply_async(entry, *args, **kwargs)
        except Exception:
            SENT.labels(entry.task, "failed").inc()
            raise
        SENT.labels(entry.task, "sent").inc()
        NOTED.sent = time.monotonic()
        return sent


class BeatMonitor(Collector):
    """Whether it is live and ready, and its figures. period: seconds between two messages, at most."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._started = time.monotonic()

    def why_not_live(self) -> list[str]:
        now, said = time.monotonic(), []
        for what, at in (("looked at its schedule", NOTED.looked), ("sent a message that the broker took", NOTED.sent)):
            if now - (at or self._started) > self._period + SILENT:
                said.append(f"the scheduler has not {what} for {now - (at or self._started):.0f} s")
        return said

    def why_not_ready(self) -> list[str]:
        return [*self.why_not_live(), *([] if NOTED.sent else ["the broker has taken no message of the scheduler yet"])]

    def collect(self) -> Iterator[Any]:
        yield info("twinvec_worker", "What this worker is", {"name": "beat", "lanes": ""})
        yield build()
        yield resident_memory(main=psutil.Process().memory_info().rss)
        yield gauge("twinvec_live", "1 where this process is live, as `/live` says", not self.why_not_live())
        yield gauge("twinvec_ready", "1 where this process is ready, as `/ready` says", not self.why_not_ready())


@contextmanager
def serving_beat(settings: Settings) -> Iterator[None]:
    """Serve while the block runs, where a port is set. Raises StartRefused where it cannot be had."""
    if settings.http_port is None:
        yield
        return
    monitor = BeatMonitor(settings.sweep)
    registry = CollectorRegistry()
    for collector in (monitor, MAIN):
        registry.register(collector)
    ProcessCollector(registry=registry)
    endpoint = listen(settings, registry, monitor.why_not_live, monitor.why_not_ready)
    try:
        yield
    finally:
        endpoint.close()
