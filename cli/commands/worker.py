"""`twinvec worker`: one Celery worker in the foreground, as compose and the stack run it."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer
from celery.utils.nodenames import host_format

from cli import starting
from cli.options import lane_names
from training.model.devices import settle_blas, share_gpu
from twinvec_client.contract.broker import LANES
from worker.logs import quieten_libraries
from worker.preflight import backend_faults
from worker.settings import Settings
from worker.turnstile import pass_through

SOMEONE_WAITS = {"query", "control", "express"}  # lanes whose answers a caller waits for
BEHIND = 2  # so much nicer takes pictures in no faster than they are embedded: else intake ends first, and cores idle
AHEAD = 2  # messages for each process that takes in pictures: the next one comes from afar while one is stored
TASKS = 20  # after which a process that trains is replaced: TensorFlow keeps some 20 MB of each training for good


def worker(
    lanes: Annotated[str, typer.Option(help=f"What it works on, joined by commas: {', '.join(LANES)}.")] = ",".join(
        LANES
    ),
    name: Annotated[str, typer.Option(help="Its name in logs; lanes joined by dashes if not given.")] = "",
    processes: Annotated[int | None, typer.Option(min=1, help="Pool processes; 1 is right for a GPU.")] = None,
) -> None:
    """Run one worker in the foreground.

    It needs a broker and a database: TWINVEC_BROKER_URL and TWINVEC_DATABASE_URL, or a running `twinvec up`.

    \b
    Example:
      twinvec worker --lanes embed,backfill
    """
    wanted = lane_names(lanes)
    settle_blas(one_thread="train" not in wanted)  # before NumPy is loaded
    from worker import forkserver, metrics  # noqa: PLC0415
    from worker.app import app  # noqa: PLC0415
    from worker.monitor import serving  # noqa: PLC0415

    app.loader.import_default_modules()
    forkserver.serve_pool(metrics.decide_again, f"pool of {name or '-'.join(wanted)}")
    pass_through()
    settings = Settings()
    count = processes or (settings.decoders() if "intake" in wanted else 1)
    broker, database = settings.guarded_broker(), settings.require_database()
    starting.warn_of(backend_faults())
    starting.check_broker(broker)
    starting.check_database(database, processes=count)
    starting.check_lanes(broker, settings)
    if not SOMEONE_WAITS & set(wanted):
        os.nice(settings.niceness + (BEHIND if settings.niceness and wanted == ["intake"] else 0))  # and of its pool
    share_gpu()
    quieten_libraries(settings.log_format)
    os.environ["TWINVEC_LANES"] = ",".join(wanted)  # pool processes load what these need before their first task
    name = name or "-".join(wanted)
    with serving(settings, name, wanted, count):
        # Not by Celery's own command line, which takes options from variables such as APP, BROKER_URL and WORKDIR.
        started = app.Worker(
            hostname=host_format(f"{name}@%h"),
            queues=wanted,
            pool="prefork",
            concurrency=count,
            prefetch_multiplier=AHEAD if wanted == ["intake"] else 1,
            loglevel=logging.INFO,
            quiet=settings.log_format == "json",  # no banner
            max_tasks_per_child=TASKS if wanted == ["train"] else None,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,  # `worker.events` sends it
        )
        started.start()
    raise typer.Exit(started.exitcode or 0)
