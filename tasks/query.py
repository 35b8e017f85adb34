"""Look up the nearest stored digits, on the lane `query`. It must not write."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db import digits
from db.vectors import embeddings, towers
from db.vectors.search import Neighbour
from db.vectors.search import nearest as nearest_digits
from tasks.answering import answering
from training.pictures.deadline import Budget
from training.pictures.read import read_picture
from twinvec_client.contract.messages import Nearest, Query
from worker.app import app
from worker.runtime import Runtime, runtime

TIME_LIMIT = 120  # seconds for a request, after which its process is ended
PICTURES_SECONDS = 10.0  # of the processor for all pictures of a request: others wait meanwhile
Vector = np.ndarray[Any, Any]


@app.task(name=Nearest.task, ignore_result=False, time_limit=TIME_LIMIT)
@answering
def nearest(**payload: Any) -> dict[str, Any]:
    return look_up(Nearest.read(payload), runtime())


def look_up(request: Nearest, runtime: Runtime) -> dict[str, Any]:
    """Answers in the order of the queries, all under the tower that is live now.

    Raises PictureError, NoTower, UnknownKey, NotEmbedded.
    """
    budget = Budget(PICTURES_SECONDS)
    glyphs = {
        at: glyph_of(query, budget, normalise=request.normalise)
        for at, query in enumerate(request.queries)
        if query.glyph is not None or query.encoded is not None
    }
    tower = runtime.transact(towers.live)
    embedded: dict[int, Vector] = {}
    if glyphs:
        embedded = dict(zip(glyphs, runtime.towers[tower.id](np.stack(list(glyphs.values()))), strict=True))

    def search(session: Session) -> list[dict[str, Any]]:
        answers = []
        for at, query in enumerate(request.queries):
            vector, itself = (embedded[at], None) if at in embedded else stored_or_given(session, tower.id, query)
            found = nearest_digits(
                session, tower.id, vector, k=request.k, collection=request.collection, leave_out=itself
            )
            answers.append(
                {"tower": tower.fingerprint, "exact": True, "neighbours": [to_wire(neighbour) for neighbour in found]}
            )
        return answers

    return {"answers": runtime.transact(search)}


def to_wire(neighbour: Neighbour) -> dict[str, Any]:
    """A neighbour as it is sent: with its attributes as JSON text."""
    attributes = neighbour.attributes
    return {**neighbour._asdict(), "attributes": None if attributes is None else json.dumps(attributes)}


def glyph_of(query: Query, budget: Budget, *, normalise: bool) -> Vector:
    """The (784,) uint8 pixels of a picture query."""
    if query.encoded is not None:
        with budget.spend():
            return read_picture(query.encoded, normalise=normalise).reshape(-1)
    return np.frombuffer(query.glyph or b"", np.uint8)


def stored_or_given(session: Session, tower: int, query: Query) -> tuple[Vector, int | None]:
    """The stored vector of a query by key, and its digit, to be left out of the answer; or the given vector, None."""
    if query.key is not None:
        digit = digits.find(session, query.key, query.collection)
        return embeddings.vector_of(session, tower, digit), digit
    return np.asarray(query.vector, np.float32), None
