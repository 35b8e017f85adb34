"""Requests about towers, on the lane `control`: list them, start and stop trainings. It must not load a model."""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from db.errors import TrainingRunning
from db.queue import actions, jobs, trainings
from db.queue.jobs import JobStatus
from db.states import FINAL, JobKind, JobState
from db.vectors import towers
from tasks.answering import InvalidRequest, answering
from training.recipes import RECIPES
from twinvec_client.contract.messages import (
    ListTowers,
    Retrain,
    RetrainOnSchedule,
    ShowSchedule,
    StartTraining,
    StopTraining,
)
from worker import callbacks
from worker.app import app
from worker.cron import next_at
from worker.outbox import publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

SCHEDULE = "schedule"  # what starts a training by itself, in its tower's lineage


@app.task(name=ListTowers.task, ignore_result=False)
@answering
def list_towers(**_: Any) -> dict[str, Any]:
    return {"towers": [asdict(tower) for tower in runtime().transact(towers.all_of_them)]}


@app.task(name=StartTraining.task, ignore_result=False)
@answering
def start_training(**payload: Any) -> dict[str, Any]:
    return {"job": start(StartTraining.read(payload), runtime())}


@app.task(name=Retrain.task, ignore_result=False)
@answering
def start_retraining(**payload: Any) -> dict[str, Any]:
    return {"job": start(Retrain.read(payload), runtime())}


@app.task(name=ShowSchedule.task, ignore_result=False)
@answering
def show_schedule(**_: Any) -> dict[str, Any]:
    return {"schedule": schedule(runtime())}


@app.task(name=StopTraining.task, ignore_result=False)
@answering
def stop_training(**payload: Any) -> dict[str, Any]:
    return stop(StopTraining.read(payload), runtime())


@app.task(name=RetrainOnSchedule.task)
def retrain_on_schedule(**payload: Any) -> None:
    retrain(RetrainOnSchedule.read(payload), runtime())


def start(request: StartTraining | Retrain, runtime: Runtime) -> str:
    """Open a training, or a retraining, and publish it; its job id.

    Raises TrainingRunning, InvalidRequest, BadMessage.
    """
    if request.recipe not in RECIPES:
        raise InvalidRequest(f"no recipe {request.recipe!r:.40}: there are {', '.join(sorted(RECIPES))}")
    callbacks.check(request.callback, runtime.settings)
    id, callback = uuid.UUID(request.job), None if request.callback is None else request.callback.write()
    verb, by = "retrain" if isinstance(request, Retrain) else "train", request.started_by or actions.NOT_SAID
    job, batch = runtime.transact(
        actions.recorded(trainings.start, by, verb, f"job {id}", {"recipe": request.recipe}),
        id,
        recipe=request.recipe,
        seed=request.seed,
        data=request.data if isinstance(request, Retrain) else "mnist",
        promotes=isinstance(request, Retrain),
        started_by=request.started_by,
        callback=callback,
    )
    publish([(batch, JobKind.TRAIN)])
    return str(job)


def stop(request: StopTraining, runtime: Runtime) -> dict[str, Any]:
    """Ask a training to end early and keep its best weights; its job's status. An ended one is left as it is.

    Raises UnknownJob, and InvalidRequest where the job is not a training, has not begun, or only waits for its tower.
    """
    job = uuid.UUID(request.job)

    def ask(session: Session) -> JobStatus:
        status = jobs.status(session, job)
        if status.kind != JobKind.TRAIN:
            raise InvalidRequest(f"job {job} is not a training: `twinvec cancel {job}` ends it")
        if status.state == JobState.QUEUED:
            raise InvalidRequest(f"training {job} has learnt nothing yet: `twinvec cancel {job}` ends it")
        if status.outcome is not None and status.state not in FINAL:
            raise InvalidRequest(f"training {job} has made its tower already: `twinvec cancel {job}` drops that")
        trainings.ask_to_stop(session, job)
        return status

    return asdict(runtime.transact(ask))


def retrain(request: RetrainOnSchedule, runtime: Runtime) -> None:
    """Start a retraining with a random seed; skip it where a training is under way already."""
    retraining = Retrain(
        job=str(uuid.uuid4()),
        recipe=request.recipe,
        seed=secrets.randbelow(2**32),
        data=request.data,
        callback=None,
        started_by=SCHEDULE,
    )
    try:
        log.info("started the scheduled training %s", start(retraining, runtime))
    except TrainingRunning as running:
        log.info("skipped the scheduled training: %s", running)


def schedule(runtime: Runtime) -> dict[str, Any]:
    """When retrainings start by themselves, by this process's settings, and what came of it."""
    settings = runtime.settings
    cron = settings.train_cron
    return {
        "cron": cron,
        "recipe": settings.train_recipe,
        "data": settings.train_data,
        "next_at": None if cron is None else next_at(cron, datetime.now(UTC)).isoformat(),
        "last_tower": runtime.transact(towers.newest_started_by, SCHEDULE),
        "running": runtime.transact(trainings.under_way),
    }
