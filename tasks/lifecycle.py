"""Requests about towers, on the lane `control`: list them, start and stop trainings. It must not load a model."""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from db.errors import TrainingRunning
from db.queue import jobs, trainings
from db.queue.jobs import JobStatus
from db.states import JobKind, JobState
from db.vectors import towers
from tasks.answering import InvalidRequest, answering
from training.recipes import RECIPES
from twinvec_client.contract.messages import ListTowers, RetrainOnSchedule, StartTraining, StopTraining
from worker import callbacks
from worker.app import app
from worker.outbox import publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)


@app.task(name=ListTowers.task, ignore_result=False)
@answering
def list_towers(**_: Any) -> dict[str, Any]:
    return {"towers": [asdict(tower) for tower in runtime().transact(towers.all_of_them)]}


@app.task(name=StartTraining.task, ignore_result=False)
@answering
def start_training(**payload: Any) -> dict[str, Any]:
    return {"job": start(StartTraining.read(payload), runtime())}


@app.task(name=StopTraining.task, ignore_result=False)
@answering
def stop_training(**payload: Any) -> dict[str, Any]:
    return stop(StopTraining.read(payload), runtime())


@app.task(name=RetrainOnSchedule.task)
def retrain_on_schedule(**payload: Any) -> None:
    retrain(RetrainOnSchedule.read(payload), runtime())


def start(request: StartTraining, runtime: Runtime) -> str:
    """Open a training and publish it; its job id. Raises TrainingRunning, InvalidRequest, BadMessage."""
    if request.recipe not in RECIPES:
        raise InvalidRequest(f"no recipe {request.recipe!r:.40}: there are {', '.join(sorted(RECIPES))}")
    callbacks.check(request.callback, runtime.settings)
    id, callback = uuid.UUID(request.job), None if request.callback is None else request.callback.write()
    job, batch = runtime.transact(trainings.start, id, recipe=request.recipe, seed=request.seed, callback=callback)
    publish([(batch, JobKind.TRAIN)])
    return str(job)


def stop(request: StopTraining, runtime: Runtime) -> dict[str, Any]:
    """Ask a training to end early and keep its best weights; its job's status. An ended one is left as it is.

    Raises UnknownJob, and InvalidRequest where the job is not a training or has not begun.
    """
    job = uuid.UUID(request.job)

    def ask(session: Session) -> JobStatus:
        status = jobs.status(session, job)
        if status.kind != JobKind.TRAIN:
            raise InvalidRequest(f"job {job} is not a training: `twinvec cancel {job}` ends it")
        if status.state == JobState.QUEUED:
            raise InvalidRequest(f"training {job} has learnt nothing yet: `twinvec cancel {job}` ends it")
        trainings.ask_to_stop(session, job)
        return status

    return asdict(runtime.transact(ask))


def retrain(request: RetrainOnSchedule, runtime: Runtime) -> None:
    """Start a training with a random seed; skip it where one is running already."""
    try:
        training = StartTraining(
            job=str(uuid.uuid4()), recipe=request.recipe, seed=secrets.randbelow(2**32), callback=None
        )
        job = start(training, runtime)
        log.info("started the scheduled training %s", job)
    except TrainingRunning as running:
        log.info("skipped the scheduled training: %s", running)
