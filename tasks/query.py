"""Look up the nearest stored digits, on the lane `query`.

It must not write, but for some of what is asked while a candidate is filled: that one is judged by it.
"""

from __future__ import annotations

import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db import digits
from db.errors import first_line
from db.tables import DIMENSIONS
from db.vectors import asked, embeddings, search, towers
from db.vectors.filters import Filters
from db.vectors.search import Found, Neighbour, Place, Wanted
from db.vectors.towers import Space
from tasks import gating, joining, matching
from tasks.answering import InvalidRequest, answering
from training.errors import PictureError
from training.fit.vote import VOTERS
from training.pictures.glyphs import Outcome, normalised
from training.pictures.sandbox import read_pictures
from twinvec_client.contract.limits import GLYPH_BYTES, MAX_NEIGHBOURS
from twinvec_client.contract.messages import Nearest, Query
from worker import metrics
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
            joining.answer([(other, answering(look_up)(other.request, runtime))], runtime)
        return look_up(request, runtime)
    answered, start = [], len(request.queries)
    for other in others:
        stop = start + len(other.request.queries)
        answered.append((other, {"answers": answers[start:stop]}))
        start = stop
    joining.answer(answered, runtime)
    return {"answers": answers[: len(request.queries)]}


def look_up(request: Nearest, runtime: Runtime) -> dict[str, Any]:
    """Answers in the order of the queries, from the store of one moment: under the tower that is live, or the one that
    made a vector.

    Raises PictureError, NoTower, TowerNotLive, UnknownKey, NotEmbedded, InvalidRequest.
    """
    start = time.perf_counter()
    glyphs = glyphs_of(request.queries, normalise=request.normalise)
    wanted = Wanted(
        k=request.k,
        filters=Filters(_several(request.collection), request.label, request.attributes),
        max_distance=math.inf if request.max_distance is None else request.max_distance,
        pictures=request.pictures,
    )

    def find(session: Session) -> list[_Answered]:
        answered: dict[int, _Answered] = {}
        for space, places in by_space(session, request.queries, wanted.filters):
            queries = [request.queries[at] for at in places]
            own = {row: glyphs[at] for row, at in enumerate(places) if at in glyphs}
            gate = gating.GATES.known(session, space.tower, space.gate) if own and request.normalise else None
            vectors = placed(session, space, queries, own, runtime)
            doubts = gating.doubts(gate, own, [query.vector for query in vectors])
            found = search.nearest(session, space.tower, space.frame, vectors, wanted, connections=CONNECTIONS)
            voting = voters(session, space, vectors, wanted, found) if request.match else [None] * len(found)
            seen = [own[row].tobytes() if request.pictures and row in own else None for row in range(len(found))]
            answered |= zip(places, map(_Answered, [space] * len(found), found, doubts, voting, seen), strict=True)
        return [answered[at] for at in range(len(request.queries))]

    found = runtime.transact(find)
    seconds = time.perf_counter() - start
    metrics.count_looked_up([each.found for each in found], seconds)
    candidate = found[0].space.candidate if found else None
    if candidate is not None and glyphs:
        look_ahead(candidate, glyphs, runtime)
    return {"answers": [answer(each, seconds) for each in found]}


def look_ahead(candidate: int, glyphs: dict[int, Vector], runtime: Runtime) -> None:
    """Have the candidate loaded before it goes live, and keep some of the pictures to judge it by. Raises nothing."""
    runtime.towers.prepare(candidate)
    some = [glyph.tobytes() for glyph in glyphs.values() if random.random() < runtime.settings.asked_share]
    if some:
        try:
            runtime.transact(asked.keep, some)
        except DBAPIError as error:
            log.info("could not keep what was looked up: %s", first_line(error))


class _Answered(NamedTuple):
    """What was found for one query. voting: the neighbours that vote, where a match is asked for. glyph: the pixels
    that were made of its picture, where pictures are asked for."""

    space: Space
    found: Found
    doubtful: bool | None
    voting: list[Neighbour] | None
    glyph: bytes | None


def by_space(session: Session, queries: Sequence[Query], filters: Filters) -> list[tuple[Space, list[int]]]:
    """Begin a search; the spaces that the queries are answered in, and the places of those of each: that of the tower
    which made a vector or the answer that is continued, and the live tower's for all others.

    Raises NoTower, TowerNotLive, InvalidRequest.
    """
    live = towers.space_of(session, search.begin_with(session, towers.SEARCHED, filters))
    spaces, places = {live.fingerprint: live}, dict[str, list[int]]()
    for at, query in enumerate(queries):
        after = tower_of(query.after)
        named = query.tower or after or live.fingerprint
        if after not in (None, named):
            raise InvalidRequest("after: not the `next` of an answer to this vector")
        if named not in spaces:
            spaces[named] = towers.searched(session, named)
        places.setdefault(named, []).append(at)
    return [(spaces[name], those) for name, those in places.items()]


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


def answer(answered: _Answered, seconds: float) -> dict[str, Any]:
    """An answer as it is sent."""
    space, found, doubtful, voting, glyph = answered
    match = None if voting is None else matching.match(voting, space, doubtful=bool(doubtful))._asdict()
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
        "glyph": glyph,
    }


def placed(
    session: Session, space: Space, wanted: Sequence[Query], glyphs: dict[int, Vector], runtime: Runtime
) -> list[search.Query]:
    """Where each query lies in the space: pictures are embedded, all in one call, and keys are looked up."""
    after = [read_cursor(query.after) for query in wanted]
    vectors = np.empty((len(wanted), DIMENSIONS), np.float32)
    if glyphs:
        embed = runtime.towers.known_as(space.tower, space.fingerprint)
        vectors[list(glyphs)] = embed(np.stack(list(glyphs.values())))
    keys = {at: (query.key, _several(query.collection)) for at, query in enumerate(wanted) if query.key is not None}
    ids = dict(zip(keys, digits.find_all(session, list(keys.values())), strict=True)) if keys else {}
    if ids:
        vectors[list(ids)] = embeddings.vectors_of(session, space.tower, list(ids.values()))
    for at, query in enumerate(wanted):
        if query.vector is not None:
            vectors[at] = query.vector
    return [search.Query(vectors[at], leave_out=ids.get(at), after=after[at]) for at in range(len(wanted))]


def write_cursor(space: Space, place: Place) -> str:
    """Where an answer ended, as the caller keeps it."""
    return f"{space.fingerprint}:{place.distance.hex()}:{place.digit}"


def tower_of(cursor: str | None) -> str | None:
    """The fingerprint of the tower that gave the answer which ended there. Raises InvalidRequest."""
    if cursor is None:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise InvalidRequest("after: not the `next` of an answer")
    return parts[1]


def read_cursor(cursor: str | None) -> Place | None:
    """Raises InvalidRequest."""
    parts = None if cursor is None else _CURSOR.fullmatch(cursor)
    if parts is None:
        return None
    try:
        return Place(float.fromhex(parts[2]), int(parts[3]))
    except OverflowError:
        raise InvalidRequest("after: not the `next` of an answer") from None


def glyphs_of(queries: Sequence[Query], *, normalise: bool) -> dict[int, Vector]:
    """By place, the (784,) uint8 pixels of each query by picture. Raises PictureError, of the first that is refused."""
    encoded = {at: query.encoded for at, query in enumerate(queries) if query.encoded is not None}
    arrays = {at: query.glyph for at, query in enumerate(queries) if query.glyph is not None}
    read = read_pictures([*encoded.values()], normalise=normalise, seconds=PICTURES_SECONDS)
    outcomes = dict(zip(encoded, read, strict=True))
    if normalise and arrays:
        pixels = np.frombuffer(b"".join(arrays.values()), np.uint8).reshape(-1, GLYPH_BYTES)
        outcomes |= zip(arrays, normalised(pixels), strict=True)
    else:
        outcomes |= arrays
    return {at: np.frombuffer(pixels_of(outcomes[at]), np.uint8) for at in sorted(outcomes)}


def pixels_of(outcome: Outcome) -> bytes:
    if isinstance(outcome, PictureError):
        raise outcome
    return outcome


def _several(collections: str | list[str] | None) -> tuple[str, ...] | None:
    """A filter's collections, however many were named."""
    if collections is None:
        return None
    return (collections,) if isinstance(collections, str) else tuple(collections)
