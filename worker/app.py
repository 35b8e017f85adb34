"""Celery's application: what every process of ours shares. It names tasks as strings and imports none."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from celery.signals import after_setup_logger, worker_process_init, worker_ready, worker_shutdown

from db.errors import first_line
from twinvec_client.contract.application import ExplicitApplication
from worker import roster, transport
from worker.held import ReadLanes
from worker.runfile import loading_file
from worker.runtime import runtime
from worker.settings import Settings
from worker.task import OwnTask
from worker.watchdog import watch_consumer

transport.install()
app = ExplicitApplication(
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


@after_setup_logger.connect
def quieten(**_: Any) -> None:
    """Silence Celery's two log lines for each message: a task here logs what it did, in one line."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


@worker_ready.connect
def begin_to_listen(sender: Any, **_: Any) -> None:
    """Start the watchdog of the worker's consumer, which also says what runs here."""
    lanes = sorted(sender.app.amqp.queues.consume_from)
    pool = partial(_pool_processes, sender.pool)
    describe = partial(roster.describe, sender.hostname, lanes, pool)
    ended = watch_consumer(Settings(), lanes, describe=describe, reading=ReadLanes(sender, lanes))
    worker_shutdown.connect(lambda **_: ended.set(), weak=False)


def _pool_processes(pool: Any) -> list[int]:
    """Their ids; none while they are being replaced."""
    try:
        return [process.pid for process in pool._pool._pool if process.pid]
    except (AttributeError, TypeError):
        return []


@worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Load what the lanes of this pool process need before its first task, then create the file that says so."""
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
    if ready is not None:
        Path(ready).touch()


def runs_towers() -> bool:
    """Whether a lane of this worker runs towers."""
    return bool({"embed", "backfill", "query"} & set(os.environ.get("TWINVEC_LANES", "").split(",")))
