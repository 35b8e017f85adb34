"""Train a tower and register it, while the job's row shows the progress. It must not know what a recipe does.

What it goes on from after its worker died stands in the ledger, where a worker on any machine finds it.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from threading import Event
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.engine import transact_once, transact_through_outage
from db.errors import LeaseLost, first_line
from db.queue import trainings
from db.queue.finish import close_alone
from db.queue.leases import Lease, renew
from db.states import JobKind
from db.vectors import lifecycle
from db.vectors.frame import Frame, Pruning
from db.vectors.lifecycle import NewTower
from tasks.material import Learnt, gather
from tasks.upkeep import sweep
from training.recipes import RECIPES
from twinvec_client.contract.messages import TrainBatch
from worker import metrics
from worker.app import app
from worker.logs import about
from worker.notices import notify
from worker.runtime import Runtime, runtime

if TYPE_CHECKING:
    from training.fit.progress import Progress
    from training.fit.train import Trained

log = logging.getLogger(__name__)

TIME_LIMIT = 7 * 24 * 3600  # seconds: longer than any training


@app.task(name=TrainBatch.task, time_limit=TIME_LIMIT)
def train_batch(**payload: Any) -> None:
    train(TrainBatch.read(payload).batch, runtime())


def train(batch: int, runtime: Runtime) -> None:
    """Train if the batch can be claimed. The tower and the end of its job are one transaction, fenced by the token.

    A training that fails ends its job with the reason; one whose process dies is queued again by the sweep, and goes on
    from its last whole epoch.
    """
    lease = runtime.claim(batch, JobKind.TRAIN)
    if lease is None:
        return
    runtime.transact(trainings.forget_stop, lease.job)
    try:
        with runtime.lease_renewer.renewing(lease):
            start = time.perf_counter()
            learnt = gather(lease, runtime)
            trained = fit(lease, runtime, learnt)
            frame = Frame.fit(trained.vectors)
            pruning = frame.pruning(trained.vectors)
            seconds = {"wait": lease.waited, "train": time.perf_counter() - start}
            metrics.STAGE.labels("train").observe(seconds["train"])
            new = new_tower(trained, frame, pruning, lineage_of(lease, learnt, trained))
            tower = transact_through_outage(runtime.engine, register, lease, new, seconds)
    except LeaseLost as fenced:
        log.warning("dropped training %s: %s", lease.job, fenced)
    except Exception as error:
        log.exception("training %s failed", lease.job, extra=about(job=lease.job, batch=lease.batch))
        message = f"{type(error).__name__}: {first_line(error)}"
        with suppress(LeaseLost):  # the job of a cancelled training has ended already
            transact_through_outage(runtime.engine, fail, lease, message)
        notify([lease.job])
    except BaseException as stopped:  # asked to shut down: another worker goes on
        runtime.give_back(lease, stopped)
        raise
    else:
        log.info(
            "trained tower %d (%.12s), now %s",
            tower["tower"],
            tower["fingerprint"],
            tower["status"],
            extra=about(job=lease.job, batch=lease.batch, tower=tower["tower"]),
        )
        notify([lease.job])
        sweep(runtime)  # at once: digits may wait for a tower, and a callback for the end of this job


def fit(lease: Lease, runtime: Runtime, learnt: Learnt) -> Trained:
    """Run the job's recipe. Raises LeaseLost where the job was cancelled."""
    from training.fit.train import train as fit_tower  # noqa: PLC0415  # loads Keras: only the process that trains

    settings = runtime.settings
    asked_to_stop = Event()

    def on_progress(progress: Progress) -> None:
        shown = asdict(progress) | {"attempt": lease.attempt}  # above 1: its worker died
        try:
            if transact_once(runtime.engine, report, lease, shown, settings.lease):
                asked_to_stop.set()
            notify([lease.job])
        except DBAPIError as error:  # a training outlives a database that is down for a while
            log.warning("could not report the progress of training %s: %s", lease.job, first_line(error))

    def on_checkpoint(epoch: int, state: bytes) -> None:
        try:
            transact_once(runtime.engine, trainings.keep_state, lease, epoch, state)
        except DBAPIError as error:  # it goes on; what is kept is older for a while
            log.warning("could not keep epoch %d of training %s: %s", epoch, lease.job, first_line(error))

    return fit_tower(
        RECIPES[lease.parameters["recipe"]],
        learnt.data,
        seed=lease.parameters["seed"],
        on_progress=on_progress,
        should_stop=asked_to_stop.is_set,
        on_checkpoint=on_checkpoint,
        checkpoint=runtime.transact(trainings.state, lease.job),
    )


def report(session: Session, lease: Lease, progress: dict[str, Any], seconds: float) -> bool:
    """Store the progress in the job's row and renew the lease; whether the training was asked to stop.

    Raises LeaseLost.
    """
    if not renew(session, lease, seconds):
        raise LeaseLost(lease.batch)
    return trainings.report_progress(session, lease.job, progress)


def lineage_of(lease: Lease, learnt: Learnt, trained: Trained) -> dict[str, Any]:
    """What a tower comes from, to be stored with it."""
    asked = lease.parameters
    return {
        "data": asked.get("data", "mnist"),
        "source": learnt.data.source,
        "digest": trained.data_digest,
        "mnist_digits": learnt.of_data_set,
        "stored_labels": learnt.stored,
        "judged_pairs": learnt.judged,
        "code": version("twinvec"),
        "libraries": trained.versions,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "started_by": asked.get("started_by"),
    }


def new_tower(trained: Trained, frame: Frame, pruning: Pruning, lineage: dict[str, Any]) -> NewTower:
    """A tower as it is registered, with the frame of its space."""
    return NewTower(
        fingerprint=trained.fingerprint,
        file=trained.file,
        recipe=trained.recipe,
        settings=trained.settings,
        seed=trained.seed,
        data_digest=trained.data_digest,
        versions=trained.versions,
        metrics=trained.metrics | {"search": pruning._asdict()},
        history=trained.history,
        threshold=trained.threshold,
        frame=frame.to_bytes(),
        gate=trained.gate.to_bytes(),
        lineage=lineage,
    )


def register(session: Session, lease: Lease, new: NewTower, seconds: dict[str, float]) -> dict[str, Any]:
    """Store the tower, and note it as what the job has made. Raises LeaseLost."""
    close_alone(session, lease, seconds)
    tower = lifecycle.register(session, new)
    outcome = {
        "tower": tower.id,
        "fingerprint": tower.fingerprint,
        "status": tower.status,
        "metrics": tower.metrics,
        "history": tower.history,
    }
    trainings.made(session, lease.job, outcome)
    return outcome


def fail(session: Session, lease: Lease, message: str) -> None:
    """End the job with why it failed. Raises LeaseLost."""
    close_alone(session, lease, {})
    trainings.end(session, lease.job, message=message)
