"""Celery's application: what every process of ours shares. It names tasks as strings and imports none."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    task_postrun,
    task_prerun,
    worker_before_create_process,
    worker_process_init,
    worker_ready,
    worker_shutdown,
)
from celery.utils.log import get_multiprocessing_logger

from db.errors import first_line
from training.model import devices
from twinvec_client.contract.application import ExplicitApplication
from worker import answers, events, logs, metrics, roster, silence, transport
from worker.heartbeat import Heartbeat
from worker.held import ReadLanes
from worker.niceness import have_session_yield
from worker.runfile import loading_file
from worker.runtime import runtime, served
from worker.settings import Settings
from worker.task import OwnTask
from worker.watchdog import watch_consumer

transport.install()
answers.install()
silence.install()


class Application(ExplicitApplication):
    """Is pickled by name: a pool process works by the application that its tasks are registered with."""

    def __reduce__(self) -> Any:
        return _this, ()


def _this() -> Application:
    return app


app = Application(
    "twinvec",
    task_cls=OwnTask,
    include=[
        "tasks.intake",
        "tasks.inbox",
        "tasks.embed",
        "tasks.express",
        "tasks.judging",
        "tasks.watch",
        "tasks.query",
        "tasks.review",
        "tasks.stored",
        "tasks.vectors",
        "tasks.judgements",
        "tasks.jobs",
        "tasks.overview",
        "tasks.steering",
        "tasks.lifecycle",
        "tasks.towers",
        "tasks.plain",
        "tasks.probe",
        "tasks.train",
        "tasks.upkeep",
        "tasks.prune",
    ],
)
app.config_from_object("worker.celeryconfig:CELERY")


@after_setup_task_logger.connect
@after_setup_logger.connect
def set_log_format(logger: logging.Logger, format: str, colorize: bool | None = None, **_: Any) -> None:
    """One line a record, as text or as JSON."""
    for each in filter(None, (logger, get_multiprocessing_logger())):
        logs.set_format(each, Settings.tolerant()[0].log_format, format=format, colorize=colorize)


@worker_before_create_process.connect
def leave_logs_to_celery(**_: Any) -> None:
    """A pool process would first set up a log of its own, for the line that it begins."""
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)


@after_setup_logger.connect
def quieten(**_: Any) -> None:
    """Silence Celery's two log lines for each message: a task here logs what it did, in one line."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


@worker_ready.connect
def begin_to_listen(sender: Any, **_: Any) -> None:
    """Start the watchdog of the worker's consumer, which also says what runs here, and send its events."""
    lanes = sorted(sender.app.amqp.queues.consume_from)
    pool = partial(_pool_processes, sender.pool)
    describe = partial(roster.describe, sender.hostname, lanes, pool)
    ended = watch_consumer(Settings(), lanes, describe=describe, reading=ReadLanes(sender, lanes))
    announced = events.announce(sender.app, sender.hostname)
    for each in (ended, announced):
        worker_shutdown.connect(lambda each=each, **_: each.set(), weak=False)


def _pool_processes(pool: Any) -> list[int]:
    """Their ids; none while they are being replaced."""
    try:
        return [process.pid for process in pool._pool._pool if process.pid]
    except (AttributeError, TypeError):
        return []


@worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Load what the lanes of this pool process need before its first task, then create the file that says so."""
    gc.disable()  # as in `cli.__main__`
    heartbeat = beginning_to_beat()
    # Celery ends a pool process that outlasts the grace time with SIGTERM, which by default ends it without cleanup.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ready = os.environ.get("TWINVEC_READY_FILE")
    if ready is not None:
        loading = loading_file(Path(ready))
        loading.write_text(f"{os.getpid()}")
    try:
        if runs_towers():
            runtime().warm_up()
    except Exception as error:  # Celery only logs it: what waits for the file would wait for nothing
        if ready is not None:
            loading.write_text(f"{os.getpid()}\n{type(error).__name__}: {first_line(error)}")
        raise
    finally:
        gc.enable()
    if heartbeat is not None:
        heartbeat.warmed_up()
    if "train" not in served():  # it computes in threads that wait for each other: all are as slow as the slowest
        have_session_yield()
    if ready is not None:
        Path(ready).touch()


def beginning_to_beat() -> Heartbeat | None:
    """The signs of life of this pool process, where its main process serves them."""
    folder = os.environ.get(metrics.MARK)
    if folder is None:
        return None
    runtime()  # made here, and not by two threads at once
    heartbeat = Heartbeat(Path(folder), runtime, also=lambda: metrics.note_gpu_memory(devices.memory_taken()))
    heartbeat.start()
    timed = metrics.Timed()

    def begin(task: Any = None, **_: Any) -> None:
        timed.begin()
        heartbeat.begin(task.time_limit or app.conf.task_time_limit)

    def end(task: Any = None, state: str | None = None, **_: Any) -> None:
        timed.end(task, state)
        heartbeat.end()

    task_prerun.connect(begin, weak=False)
    task_postrun.connect(end, weak=False)
    metrics.announce()
    return heartbeat


def runs_towers() -> bool:
    """Whether a lane of this worker runs towers."""
    return bool({"embed", "backfill", "query"} & served())
