"""Stored vectors, by the keys of their digits or by the job that brought them, on the lane `query`: a page each time.

It must not know how they are searched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from db.queue import contents
from db.vectors import towers, walk
from db.vectors.walk import Page
from tasks.answering import answering
from twinvec_client.contract.messages import GetVectors, VectorsOfJob
from worker.app import app
from worker.runtime import Runtime, runtime

DIGITS = 2000  # of a job's page, about: one more batch, of 4,096 at most, may come with them

Reply = dict[str, Any]


@app.task(name=GetVectors.task, ignore_result=False)
@answering
def of_keys(**payload: Any) -> Reply:
    return vectors_of_keys(GetVectors.read(payload), runtime())


@app.task(name=VectorsOfJob.task, ignore_result=False)
@answering
def of_job(**payload: Any) -> Reply:
    return vectors_of_job(VectorsOfJob.read(payload), runtime())


def vectors_of_keys(request: GetVectors, runtime: Runtime) -> Reply:
    """Those that are stored. Raises NoTower, TowerNotLive."""

    def find(session: Session, tower: int) -> Reply:
        return sent(walk.with_keys(session, tower, request.collection, request.keys))

    return _under_one_tower(request, runtime, find)


def vectors_of_job(request: VectorsOfJob, runtime: Runtime) -> Reply:
    """Those of some of its batches. Raises UnknownJob, NoTower, TowerNotLive."""

    def find(session: Session, tower: int) -> Reply:
        ids, after = contents.page(session, UUID(request.job), after=request.after, limit=DIGITS)
        return {**sent(walk.with_ids(session, tower, ids)), "after": after}

    return _under_one_tower(request, runtime, find)


def sent(page: Page) -> Reply:
    """A page of vectors as it travels."""
    return {
        "keys": page.keys,
        "collections": page.collections,
        "labels": page.labels,
        "vectors": page.vectors.astype("<f4").tobytes(),
    }


def _under_one_tower(
    request: GetVectors | VectorsOfJob, runtime: Runtime, find: Callable[[Session, int], Reply]
) -> Reply:
    """What is found under the tower that answered the pages before."""

    def look(session: Session) -> Reply:
        space = towers.searched(session, request.tower)
        return {"tower": space.fingerprint, **find(session, space.tower)}

    return runtime.transact(look)
