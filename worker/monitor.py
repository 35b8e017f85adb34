"""What the main process of a worker serves over HTTP: its figures, whether it is live, and whether it is ready.

Live is a worker whose work is done: its processes run, the database answers each of them and the broker the consumer,
and no task outlasts its limit. What a supervisor can do about one that is not is to start another. It must not know
tasks.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from celery.signals import beat_init, worker_ready
from celery.worker import state
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker import watchdog
from worker.endpoint import Endpoint, Why
from worker.figures import Installation
from worker.forkserver import FORK_SERVER
from worker.heartbeat import PREFIX, Signs
from worker.metrics import MAIN, MARK, announce_main, build, gauge, info
from worker.metrics_folder import MetricsFolder
from worker.preflight import StartRefused
from worker.settings import Settings

log = logging.getLogger(__name__)

CONTROL = "control"  # of the workers of one lane, one kind tells of the whole installation
FROZEN = 20.0  # seconds without a note of a process that runs; it makes one every two
SILENT = 45.0  # seconds without an answer of the database, or of the broker
LOADING = 300.0  # seconds that a new process has to load TensorFlow and a tower
OVERTIME = 30.0  # seconds after a task's limit, in which Celery should have ended its process
UNWORKED = 60.0  # seconds for which a message is held while no process works on one


@contextmanager
def serving(settings: Settings, name: str, lanes: Sequence[str], processes: int) -> Iterator[None]:
    """Serve, while the block runs, where a port is set. Before the pool is made: its processes inherit where to count.

    Raises StartRefused where the port cannot be had.
    """
    if settings.http_port is None:
        yield
        return
    monitor = Monitor(name, lanes, processes)
    announce_main()
    installation = Installation(settings)
    more = [installation] if CONTROL in lanes else []
    os.environ[MARK] = str(monitor.folder.path)
    try:
        endpoint = listen(settings, monitor.registry(*more), monitor.why_not_live, monitor.why_not_ready)
        if more:
            installation.start()
        try:
            yield
        finally:
            endpoint.close()
    finally:
        del os.environ[MARK]
        monitor.folder.close()


def listen(settings: Settings, registry: CollectorRegistry, live: Why, ready: Why) -> Endpoint:
    """Raises StartRefused where the port cannot be had."""
    host, port = settings.http_host, settings.http_port or 0
    try:
        endpoint = Endpoint(host, port, registry, live=live, ready=ready)
    except OSError as error:
        raise StartRefused(
            f"cannot listen on {host}:{port} ({error.strerror or error}): set TWINVEC_HTTP_PORT to a free port"
        ) from error

    def say(**_: Any) -> None:
        log.info("serving /metrics, /live and /ready on %s, port %d", host, endpoint.port)

    for begun in (worker_ready, beat_init):  # before that, Celery has not set up the logs
        begun.connect(say, weak=False)
    return endpoint


class Monitor(Collector):
    """Of one worker. lanes: it works on. processes: of its pool."""

    def __init__(
        self, name: str, lanes: Sequence[str], processes: int, *, held: Callable[[], bool] | None = None
    ) -> None:
        self._name, self._lanes, self._processes = name, lanes, processes
        self._held = held or (lambda: bool(state.reserved_requests))
        self.folder = MetricsFolder(lambda: {child.pid for child in _children()})
        self._started = self._complete = self._worked = time.monotonic()

    def registry(self, *more: Collector) -> CollectorRegistry:
        """All that is served."""
        found = CollectorRegistry()
        for collector in (self, self.folder, MAIN, *more):
            found.register(collector)
        ProcessCollector(registry=found)
        return found

    def why_not_live(self) -> list[str]:
        """Sentences; none where it is live."""
        now = time.monotonic()
        signs = self._signs()
        said = [sentence for pid, each in signs.items() for sentence in not_live(f"process {pid}", each, now)]
        if len(signs) >= self._processes:
            self._complete = now
        elif now - self._complete > LOADING:
            said.append(f"{len(signs)} of {self._processes} processes run, for {now - self._complete:.0f} s")
        if any(each.busy for each in signs.values()) or not self._held():
            self._worked = now
        elif now - self._worked > UNWORKED:
            said.append(f"a message is held for {now - self._worked:.0f} s, and no process works on one")
        seen = watchdog.BROKER.at
        if now - (seen or self._started) > (SILENT if seen else LOADING):
            said.append(f"the broker has not answered for {now - (seen or self._started):.0f} s")
        return said

    def why_not_ready(self) -> list[str]:
        """Sentences; none where it is ready: live, its towers have answered, and it listens."""
        signs = self._signs()
        said = self.why_not_live()
        loading = self._processes - sum(1 for each in signs.values() if each.warm and each.answered)
        if loading > 0:
            said.append(f"{loading} of {self._processes} processes have not loaded what they need yet")
        if not watchdog.BROKER.at:
            said.append("it does not listen to its lanes yet")
        return said

    def collect(self) -> Iterator[Metric]:
        yield info("twinvec_worker", "What this worker is", {"name": self._name, "lanes": ",".join(self._lanes)})
        yield build()
        children = _children()
        forks = [child for child in children if _is_fork_server(child)]
        pool = [child for child in children if child not in forks]
        yield resident_memory(main=_resident([psutil.Process()]), pool=_resident(pool), forks=_resident(forks))
        signs = self._signs()
        working = sum(1 for each in signs.values() if each.busy)
        yield gauge("twinvec_pool_processes", "Processes of this worker's pool", len(signs))
        yield gauge("twinvec_pool_processes_busy", "Processes of this worker's pool that work on a task", working)
        yield gauge("twinvec_live", "1 where this process is live, as `/live` says", not self.why_not_live())
        yield gauge("twinvec_ready", "1 where this process is ready, as `/ready` says", not self.why_not_ready())

    def _signs(self) -> dict[int, Signs]:
        """By process. The files of those that are gone are removed."""
        files = list(self.folder.path.glob(f"{PREFIX}*"))
        living, found = {child.pid for child in _children()}, {}
        for file in files:
            pid = int(file.name.removeprefix(PREFIX))
            if pid not in living:
                file.unlink(missing_ok=True)
            elif (signs := Signs.read(file)) is not None:
                found[pid] = signs
        return found


def not_live(name: str, signs: Signs, now: float) -> Iterator[str]:
    """Why a process is not live. now: by `time.monotonic()`."""
    if now - signs.noted > FROZEN:
        yield f"{name} has not run for {now - signs.noted:.0f} s"
    elif signs.warm and now - max(signs.answered, signs.warm) > SILENT:
        yield f"the database has not answered {name} for {now - max(signs.answered, signs.warm):.0f} s"
    elif signs.until and now - signs.until > OVERTIME:
        yield f"{name} has worked on a task for {now - signs.busy:.0f} s, longer than it may"


def resident_memory(**processes: int) -> Metric:
    """Bytes, of the main process and of the pool's."""
    memory = GaugeMetricFamily(
        "twinvec_resident_memory_bytes",
        "Resident memory of this worker's processes: main, pool, and forks, of which the pool's are made",
        labels=["process"],
    )
    for name, taken in processes.items():
        memory.add_metric([name], float(taken))
    return memory


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _is_fork_server(process: psutil.Process) -> bool:
    try:
        return process.name() == FORK_SERVER
    except psutil.Error:  # it ended just now
        return False


def _resident(processes: Iterable[psutil.Process]) -> int:
    found = 0
    for process in processes:
        try:
            found += process.memory_info().rss
        except psutil.Error:  # it ended just now
            continue
    return found
