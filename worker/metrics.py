"""What processes count of their work, under the names that Prometheus reads. It must not know who reads it, nor how.

Pool processes count in files of the folder that `MARK` names, if their main process serves figures, and else for
nobody. Labels take few values, all known beforehand or one of those listed here: no id of a job, no key, no name that
a caller chose.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import reload
from importlib.metadata import version
from typing import Any

from db.queue.leases import Lease
from db.states import JobKind
from db.vectors.search import Found, Way
from twinvec_client.contract.broker import LANES
from twinvec_client.contract.reasons import REASONS

MARK = "TWINVEC_METRICS"  # the variable that names the folder, set for pool processes by their main process


def _settle() -> None:
    """The package decides when it is imported where values are kept, by a variable that may be another program's."""
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    if MARK in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ[MARK]


_settle()
from prometheus_client import (  # noqa: E402  # after that
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    values,
)
from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: E402

disable_created_metrics()  # type: ignore[no-untyped-call]  # else a series beside each counter, of which nobody asks
POOL = CollectorRegistry()  # of what pool processes count
MAIN = CollectorRegistry()  # of what the main process of a worker counts, and `beat`

ANSWERED = ("query", "control", "express")  # lanes with messages that are for their senders alone
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)

QUEUE_WAIT = Histogram(
    "twinvec_queue_wait_seconds",
    "From the submission of a batch to its claim by a worker, by the kind of its job",
    ["kind"],
    buckets=_LONG,
    registry=POOL,
)
BATCH_DIGITS = Histogram(
    "twinvec_batch_digits",
    "Digits of a batch that was embedded, by the kind of its job",
    ["kind"],
    buckets=(1, 4, 16, 64, 256, 512, 1024, 2048, 4096),
    registry=POOL,
)
STAGE = Histogram(
    "twinvec_stage_seconds",
    "Seconds of a stage of the work on a chunk or a batch: decode and store; read, tower and write; train; judge",
    ["stage"],
    buckets=(*_SHORT, 60, 300, 3600),
    registry=POOL,
)
DIGITS = Counter(
    "twinvec_digits_total",
    "Digits by what became of them: accepted, unchanged, failed, embedded, backfilled, dropped (replaced meanwhile)",
    ["outcome"],
    registry=POOL,
)
FAILURES = Counter(
    "twinvec_failures_total",
    "Pictures that failed, by the reason that `twinvec failures` gives",
    ["reason"],
    registry=POOL,
)
EXPIRIES = Counter(
    "twinvec_lease_expiries_total", "Leases that expired: their workers died or were cut off", registry=POOL
)
LOST = Counter(
    "twinvec_leases_lost_total",
    "Batches whose finished work was dropped, for another worker had taken them",
    registry=POOL,
)
RETRIES = Counter(
    "twinvec_retries_total",
    "Batches that were given back after an exception, to be tried again, by the kind of their job",
    ["kind"],
    registry=POOL,
)
ISOLATED = Counter(
    "twinvec_batches_isolated_total",
    "Batches that were split or given up: they crashed workers, or always failed",
    registry=POOL,
)
LOOKUPS = Counter(
    "twinvec_lookups_total",
    "Queries that were looked up, by how: by cells, among the few digits that a filter passed, or among all vectors",
    ["way"],
    registry=POOL,
)
LOOKUP = Histogram(
    "twinvec_lookup_seconds",
    "Seconds of a look-up, of one request or of several that were answered together",
    buckets=_SHORT,
    registry=POOL,
)
COMPARED = Histogram(
    "twinvec_lookup_compared_vectors",
    "Vectors that were compared for a query",
    buckets=(10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000, 10_000_000),
    registry=POOL,
)
TASK = Summary("twinvec_task_seconds", "Seconds of a task, by its name", ["task"], registry=POOL)
TASK_FAILURES = Counter(
    "twinvec_task_failures_total", "Tasks that ended with an exception, by their name", ["task"], registry=POOL
)
GPU_MEMORY = Gauge(
    "twinvec_gpu_memory_bytes",
    "Memory of a GPU that this worker's processes have taken, as the backend says; absent without a GPU",
    ["device"],
    multiprocess_mode="livesum",
    registry=POOL,
)

SET_ASIDE = Counter(
    "twinvec_messages_set_aside_total",
    "Messages that were not admitted, by the lane that they were sent to",
    ["lane"],
    registry=MAIN,
)
UNHEARD = Counter(
    "twinvec_messages_unheard_total",
    "Messages that were left undone, as nobody waited for their answers any more, by lane",
    ["lane"],
    registry=MAIN,
)
SENT = Counter(
    "twinvec_beat_messages_total",
    "Messages that the scheduler sent, by their task and whether the broker took them: sent or failed",
    ["task", "outcome"],
    registry=MAIN,
)


def decide_again() -> None:
    """Count where `MARK` says now, in a fork of a process in which it said something else."""
    _settle()
    for module in (values, sys.modules[__name__]):
        reload(module)


def count_taken_in(accepted: int, unchanged: int, failed: Iterable[str], *, decode: float, store: float) -> None:
    """A chunk that stands in the ledger. accepted: digits that are to be embedded. failed: a reason for each that did.
    decode, store: seconds."""
    _count(accepted=accepted, unchanged=unchanged)
    count_failed(failed)
    STAGE.labels("decode").observe(decode)
    STAGE.labels("store").observe(store)


def count_failed(reasons: Iterable[str]) -> None:
    """Pictures that failed, a reason for each."""
    for reason in reasons:
        DIGITS.labels("failed").inc()
        FAILURES.labels(reason if reason in REASONS else "other").inc()


def count_claimed(lease: Lease) -> None:
    """A batch that was claimed."""
    QUEUE_WAIT.labels(lease.kind).observe(lease.waited)


def count_embedded(leases: Iterable[Lease], embedded: int, seconds: dict[str, float]) -> None:
    """Batches of one kind that were finished. embedded: digits that have their vectors. seconds: by stage."""
    held, kind = 0, ""
    for lease in leases:
        kind, held = lease.kind, held + len(lease.digits)
        BATCH_DIGITS.labels(kind).observe(len(lease.digits))
    _count(**{"embedded" if kind == "embed" else "backfilled": embedded}, dropped=held - embedded)
    for stage, spent in seconds.items():
        STAGE.labels(stage).observe(spent)


def count_whole(sizes: Sequence[int], *, decode: float, store: float) -> None:
    """Jobs that were taken in and embedded in one go: how many digits each has. decode, store: seconds."""
    for size in sizes:
        QUEUE_WAIT.labels("embed").observe(0.0)
        BATCH_DIGITS.labels("embed").observe(size)
    _count(accepted=sum(sizes), embedded=sum(sizes))
    STAGE.labels("decode").observe(decode)
    STAGE.labels("store").observe(store)


def count_looked_up(found: Iterable[Found], seconds: float) -> None:
    """What was found for the queries of a request."""
    LOOKUP.observe(seconds)
    for each in found:
        LOOKUPS.labels(each.way).inc()
        COMPARED.observe(each.compared)


class Timed:
    """The task of this process: it works on one at a time."""

    def __init__(self) -> None:
        self._begun = 0.0

    def begin(self) -> None:
        self._begun = time.perf_counter()

    def end(self, task: Any, state: str | None) -> None:
        TASK.labels(task.name).observe(time.perf_counter() - self._begun)
        TASK_FAILURES.labels(task.name).inc(state == "FAILURE")


def note_gpu_memory(taken: dict[str, int]) -> None:
    """taken: bytes by device."""
    for device, memory in taken.items():
        GPU_MEMORY.labels(device).set(memory)


def announce() -> None:
    """Let series stand at zero from the start, whose increase an alert asks for."""
    for way in Way:
        LOOKUPS.labels(way)
    for reason in REASONS:
        FAILURES.labels(reason)
    for kind in JobKind:
        RETRIES.labels(kind)
    for outcome in ("accepted", "unchanged", "failed", "embedded", "backfilled", "dropped"):
        DIGITS.labels(outcome)


def gauge(name: str, about: str, value: float | None) -> GaugeMetricFamily:
    """One without labels; without a value where that is None."""
    family = GaugeMetricFamily(name, about)
    if value is not None:
        family.add_metric([], float(value))
    return family


def info(name: str, about: str, labels: dict[str, str]) -> GaugeMetricFamily:
    """A 1 whose labels tell."""
    family = GaugeMetricFamily(f"{name}_info", about, labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


def build() -> GaugeMetricFamily:
    """What this program is made of."""
    made = {"version": version("twinvec"), "python": platform.python_version()}
    return info("twinvec_build", "The version of Twinvec and of Python", made | {"celery": version("celery")})


def announce_main() -> None:
    """The same, of what the main process counts."""
    for lane in LANES:
        SET_ASIDE.labels(lane)
    for lane in ANSWERED:
        UNHEARD.labels(lane)


def _count(**outcomes: int) -> None:
    for outcome, digits in outcomes.items():
        if digits:
            DIGITS.labels(outcome).inc(digits)
