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
from tasks.requests import InvalidRequest
from training.pictures.read import read_picture
from twinvec_client.contract.limits import GLYPH_BYTES, MAX_K, MAX_QUERIES
from twinvec_client.contract.messages import Nearest
from worker.app import app
from worker.runtime import Runtime, runtime

DIMENSIONS = 128
Vector = np.ndarray[Any, Any]


@app.task(name=Nearest.task, ignore_result=False)
@answering
def nearest(**payload: Any) -> dict[str, Any]:
    return look_up(Nearest.read(payload), runtime())


def look_up(request: Nearest, runtime: Runtime) -> dict[str, Any]:
    """Answers in the order of the queries, all under the tower that is live now.

    Raises InvalidRequest, PictureError, NoTower, UnknownKey, NotEmbedded.
    """
    if not isinstance(request.k, int) or not 1 <= request.k <= MAX_K:
        raise InvalidRequest(f"k is {request.k!r:.40}: an integer from 1 to {MAX_K}")
    if not isinstance(request.queries, list) or not all(isinstance(query, dict) for query in request.queries):
        raise InvalidRequest("queries are a list of dicts")
    if len(request.queries) > MAX_QUERIES:
        raise InvalidRequest(f"{len(request.queries)} queries in one request: at most {MAX_QUERIES}")
    glyphs = {
        at: glyph_of(query, normalise=request.normalise)
        for at, query in enumerate(request.queries)
        if "glyph" in query or "encoded" in query
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


def glyph_of(query: dict[str, Any], *, normalise: bool) -> Vector:
    """The (784,) uint8 pixels of a picture query."""
    if isinstance(query.get("encoded"), bytes):
        return read_picture(query["encoded"], normalise=normalise).reshape(-1)
    glyph = query.get("glyph")
    if not isinstance(glyph, bytes) or len(glyph) != GLYPH_BYTES:
        raise InvalidRequest(f"a picture must be bytes, and a glyph {GLYPH_BYTES} bytes")
    return np.frombuffer(glyph, np.uint8)


def stored_or_given(session: Session, tower: int, query: dict[str, Any]) -> tuple[Vector, int | None]:
    """The stored vector of a query by key, and its digit, to be left out of the answer; or the given vector, None."""
    if "key" in query:
        digit = digits.find(session, str(query["key"]), query.get("collection"))
        return embeddings.vector_of(session, tower, digit), digit
    try:
        vector = np.asarray(query.get("vector"), np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"a query is a picture, a key or a vector: {error}") from None
    if vector.shape != (DIMENSIONS,):
        raise InvalidRequest(f"a vector of shape {vector.shape}: expected {DIMENSIONS} numbers")
    if not np.isfinite(vector).all():
        raise InvalidRequest(f"a vector holds NaN or infinity at {np.flatnonzero(~np.isfinite(vector))[0]}")
    return vector, None
