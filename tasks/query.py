"""Look up the nearest stored digits, on the lane `query`. It must not write."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import structs
from sqlalchemy.orm import Session

from db import digits
from db.errors import TowerNotLive, first_line
from db.tables import DIMENSIONS
from db.vectors import embeddings, search, towers
from db.vectors.filters import Filters
from db.vectors.search import Found, Neighbour, Place, Wanted
from db.vectors.towers import Space
from tasks import gating, joining, matching
from tasks.answering import InvalidRequest, answering
from training.errors import PictureError
from training.fit.vote import VOTERS
from training.pictures.deadline import Budget
from training.pictures.glyphs import normalised
from training.pictures.read import read_picture
from twinvec_client.contract.limits import MAX_NEIGHBOURS
from twinvec_client.contract.messages import Nearest, Query
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

TIME_LIMIT = 120  # seconds for a request, after which its process is ended
PICTURES_SECONDS = 10.0  # of the processor for all pictures of a request: others wait meanwhile
MOST_QUERIES = 64  # of all look-ups that are answered together
CONNECTIONS = min(4, os.cpu_count() or 1)  # to the database, that the queries of one request are shared out among
Vector = np.ndarray[Any, Any]

_CURSOR = re.compile(r"([0-9a-f]{64}):(0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}):([0-9]{1,18})")


@app.task(name=Nearest.task, ignore_result=False, time_limit=TIME_LIMIT)
@answering
def nearest(**payload: Any) -> dict[str, Any]:
    request = Nearest.read(payload)
    return look_up_together(request, joining.take_along(Nearest, alike(request), runtime()), runtime())


def alike(first: Nearest) -> Callable[[Nearest], bool]:
    """Whether a look-up asks as the first one does, for other queries, and can be answered with those before it."""
    room = min(MOST_QUERIES, MAX_NEIGHBOURS // first.k) - len(first.queries)

    def fits(other: Nearest) -> bool:
        nonlocal room
        room -= len(other.queries)
        return room >= 0 and structs.replace(other, queries=[]) == structs.replace(first, queries=[])

    return fits


def look_up_together(request: Nearest, others: Sequence[joining.Waiting[Nearest]], runtime: Runtime) -> dict[str, Any]:
    """The answers to a request; others, which ask as it does, are answered on the way.

    Where one of them is refused, each is answered by itself. Raises as `look_up` does.
    """
    if not others:
        return look_up(request, runtime)
    queries = [*request.queries, *(query for other in others for query in other.request.queries)]
    try:
        answers = look_up(structs.replace(request, queries=queries), runtime)["answers"]
    except Exception as error:
        log.info("look-ups are answered one by one: %s", first_line(error))
        for other in others:
            joining.answer(other, answering(look_up)(other.request, runtime), runtime)
        return look_up(request, runtime)
    start = len(request.queries)
    for other in others:
        stop = start + len(other.request.queries)
        joining.answer(other, {"answers": answers[start:stop]}, runtime)
        start = stop
    return {"answers": answers[: len(request.queries)]}


def look_up(request: Nearest, runtime: Runtime) -> dict[str, Any]:
    """Answers in the order of the queries, all under the tower that is live now, from the store of one moment.

    Raises PictureError, NoTower, TowerNotLive, UnknownKey, NotEmbedded, InvalidRequest.
    """
    start, budget = time.perf_counter(), Budget(PICTURES_SECONDS)
    glyphs = {
        at: glyph_of(query, budget, normalise=request.normalise)
        for at, query in enumerate(request.queries)
        if query.glyph is not None or query.encoded is not None
    }
    wanted = Wanted(
        k=request.k,
        filters=Filters(_several(request.collection), request.label, request.attributes),
        max_distance=math.inf if request.max_distance is None else request.max_distance,
        pictures=request.pictures,
    )

    def find(session: Session) -> tuple[Space, list[Found], list[bool | None], list[list[Neighbour]] | None]:
        search.begin(session)
        space = towers.searched(session)
        queries = placed(session, space, request.queries, glyphs, runtime)
        gate = gating.GATES.of(session, space.tower) if glyphs and request.normalise else None
        doubts = gating.doubts(gate, glyphs, [query.vector for query in queries])
        found = search.nearest(session, space.tower, space.frame, queries, wanted, connections=CONNECTIONS)
        return space, found, doubts, voters(session, space, queries, wanted, found) if request.match else None

    space, found, doubts, voting = runtime.transact(find)
    seconds = time.perf_counter() - start
    matches: list[dict[str, Any] | None] = [None] * len(found)
    if voting is not None:
        votes = zip(voting, doubts, strict=True)
        matches = [matching.match(each, space, doubtful=bool(doubtful))._asdict() for each, doubtful in votes]
    return {"answers": [answer(space, *each, seconds) for each in zip(found, doubts, matches, strict=True)]}


def voters(
    session: Session, space: Space, queries: Sequence[search.Query], wanted: Wanted, found: list[Found]
) -> list[list[Neighbour]]:
    """The neighbours of each query that vote: the nearest, however many were asked for, and from which place on."""
    if wanted.k >= VOTERS and all(query.after is None for query in queries):
        return [each.neighbours for each in found]
    first = [query._replace(after=None) for query in queries]
    more = wanted._replace(k=VOTERS, pictures=False)
    nearer = search.nearest(session, space.tower, space.frame, first, more, connections=CONNECTIONS)
    return [each.neighbours for each in nearer]


def answer(
    space: Space, found: Found, doubtful: bool | None, match: dict[str, Any] | None, seconds: float
) -> dict[str, Any]:
    """An answer as it is sent."""
    return {
        "tower": space.fingerprint,
        "exact": True,
        "compared": found.compared,
        "seconds": seconds,
        "neighbours": [neighbour._asdict() for neighbour in found.neighbours],
        "next": None if found.next is None else write_cursor(space, found.next),
        "threshold": space.threshold,
        "usual": matching.usual(space),
        "doubtful": doubtful,
        "match": match,
    }


def placed(
    session: Session, space: Space, asked: Sequence[Query], glyphs: dict[int, Vector], runtime: Runtime
) -> list[search.Query]:
    """Where each query lies in the space: pictures are embedded, all in one call, and keys are looked up."""
    for query in asked:
        if query.tower is not None and query.tower != space.fingerprint:
            raise TowerNotLive(query.tower, space.fingerprint)
    after = [read_cursor(space, query.after) for query in asked]
    vectors = np.empty((len(asked), DIMENSIONS), np.float32)
    if glyphs:
        vectors[list(glyphs)] = runtime.towers[space.tower](np.stack(list(glyphs.values())))
    keys = {at: (query.key, _several(query.collection)) for at, query in enumerate(asked) if query.key is not None}
    ids = dict(zip(keys, digits.find_all(session, list(keys.values())), strict=True)) if keys else {}
    if ids:
        vectors[list(ids)] = embeddings.vectors_of(session, space.tower, list(ids.values()))
    for at, query in enumerate(asked):
        if query.vector is not None:
            vectors[at] = query.vector
    return [search.Query(vectors[at], leave_out=ids.get(at), after=after[at]) for at in range(len(asked))]


def write_cursor(space: Space, place: Place) -> str:
    """Where an answer ended, as the caller keeps it."""
    return f"{space.fingerprint}:{place.distance.hex()}:{place.digit}"


def read_cursor(space: Space, cursor: str | None) -> Place | None:
    """Raises InvalidRequest, and TowerNotLive where it is of another space."""
    if cursor is None:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise InvalidRequest("after: not the `next` of an answer")
    if parts[1] != space.fingerprint:
        raise TowerNotLive(parts[1], space.fingerprint)
    try:
        return Place(float.fromhex(parts[2]), int(parts[3]))
    except OverflowError:
        raise InvalidRequest("after: not the `next` of an answer") from None


def glyph_of(query: Query, budget: Budget, *, normalise: bool) -> Vector:
    """The (784,) uint8 pixels of a picture query."""
    if query.encoded is not None:
        with budget.spend():
            return read_picture(query.encoded, normalise=normalise).reshape(-1)
    pixels = np.frombuffer(query.glyph or b"", np.uint8)
    if not normalise:
        return pixels
    (glyph,) = normalised(pixels.reshape(1, -1))
    if isinstance(glyph, PictureError):
        raise glyph
    return np.frombuffer(glyph, np.uint8)


def _several(collections: str | list[str] | None) -> tuple[str, ...] | None:
    """A filter's collections, however many were named."""
    if collections is None:
        return None
    return (collections,) if isinstance(collections, str) else tuple(collections)
