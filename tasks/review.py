"""Walk through what is stored, on the lane `query`: labels that disagree, pairs that are too near, and the vectors.

A message is a page of bounded work, so that look-ups come between two of them. It must not write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from db.vectors import search, towers, walk
from db.vectors.search import Found, Wanted
from db.vectors.towers import Space
from db.vectors.walk import Page, Walk
from tasks import matching
from tasks.answering import InvalidRequest, answering
from tasks.vectors import sent
from training.fit.vote import VOTERS
from twinvec_client.contract.messages import FindDuplicates, FindSuspects, ListVectors
from worker.app import app
from worker.runtime import Runtime, runtime

TIME_LIMIT = 120  # seconds for a request, after which its process is ended
SECONDS = 0.05  # of a page: then it ends with what it has, and a look-up that waits has its turn
TOGETHER = 8  # digits whose neighbours are looked up in one statement
SHOWN = 5  # neighbours of a suspect
TWINS = 10  # of a digit that are reported, the nearest ones
ROUNDING = 1e-4  # more than the vectors of the same pixels are apart, whether NumPy or Keras has computed them

Walking = FindSuspects | FindDuplicates | ListVectors
Reply = dict[str, Any]


@app.task(name=FindSuspects.task, ignore_result=False, time_limit=TIME_LIMIT)
@answering
def suspects(**payload: Any) -> Reply:
    return find_suspects(FindSuspects.read(payload), runtime())


@app.task(name=FindDuplicates.task, ignore_result=False, time_limit=TIME_LIMIT)
@answering
def duplicates(**payload: Any) -> Reply:
    return find_duplicates(FindDuplicates.read(payload), runtime())


@app.task(name=ListVectors.task, ignore_result=False, time_limit=TIME_LIMIT)
@answering
def vectors(**payload: Any) -> Reply:
    return list_vectors(ListVectors.read(payload), runtime())


def find_suspects(request: FindSuspects, runtime: Runtime) -> Reply:
    """Those of a page whose neighbours elect another label. Raises NoTower, TowerNotLive."""
    route = Walk(request.collection, labelled=True)
    wanted = Wanted(k=VOTERS, pictures=request.pictures)

    def find(session: Session, space: Space) -> Reply:
        page = walk.page(session, space.tower, route, after=request.after, limit=request.limit, pixels=request.pictures)
        found, looked_at = list[Reply](), 0
        for at, near in _neighbours(session, space, page, wanted):
            looked_at = at + 1
            own = page.labels[at]
            assert own is not None, "the walk passes digits with a label"
            match = matching.match(near.neighbours, space)
            if match.label is None or match.label == own:
                continue
            found.append(
                {
                    "key": page.keys[at],
                    "collection": page.collections[at],
                    "label": own,
                    "elected": match.label,
                    "probability": match.probability,
                    "own_probability": matching.probability_of(own, near.neighbours, space),
                    "neighbours": [neighbour._asdict() for neighbour in near.neighbours[:SHOWN]],
                    "picture": page.pixels[at],
                }
            )
        return {**_position(page, looked_at, request), "suspects": found}

    return _under_one_tower(request, route, runtime, find)


def find_duplicates(request: FindDuplicates, runtime: Runtime) -> Reply:
    """The pairs of a page. Raises NoTower, TowerNotLive, and InvalidRequest where no distance is known."""
    route = Walk(request.collection)

    def find(session: Session, space: Space) -> Reply:
        distance = request.distance if request.distance is not None else matching.unusually_near(space)
        if distance is None:
            raise InvalidRequest(
                f"tower {space.tower} was trained before distances were calibrated: give a distance, or train another"
            )
        wanted = Wanted(k=TWINS, max_distance=max(distance, ROUNDING), pictures=True)
        page = walk.page(session, space.tower, route, after=request.after, limit=request.limit, pixels=True)
        found, looked_at = list[Reply](), 0
        for at, near in _neighbours(session, space, page, wanted):
            looked_at = at + 1
            for other in near.neighbours:
                if other.distance > distance and page.pixels[at] != other.picture:
                    continue
                sent = other if request.pictures else other._replace(picture=None)
                found.append(
                    {
                        "key": page.keys[at],
                        "collection": page.collections[at],
                        "label": page.labels[at],
                        "other": sent._asdict(),
                        "same_pixels": page.pixels[at] == other.picture,
                        "picture": page.pixels[at] if request.pictures else None,
                    }
                )
        return {**_position(page, looked_at, request), "distance": distance, "duplicates": found}

    return _under_one_tower(request, route, runtime, find)


def list_vectors(request: ListVectors, runtime: Runtime) -> Reply:
    """A page of vectors. Raises NoTower, TowerNotLive."""
    route = Walk(request.collection, every=request.every)

    def find(session: Session, space: Space) -> Reply:
        page = walk.page(session, space.tower, route, after=request.after, limit=request.limit)
        return {
            **_position(page, len(page.ids), request),
            **sent(page),
        }

    return _under_one_tower(request, route, runtime, find)


def _under_one_tower(request: Walking, route: Walk, runtime: Runtime, find: Callable[[Session, Space], Reply]) -> Reply:
    """What is found, in one transaction, under the tower that answered the pages before."""
    # Counted apart: a search forbids the database to read a whole table, which counts fastest.
    total = runtime.transact(walk.count, route, most=request.count) if request.count else None

    def look(session: Session) -> Reply:
        search.begin(session)
        space = towers.searched(session, request.tower)
        return {"tower": space.fingerprint, "total": total, **find(session, space)}

    return runtime.transact(look)


def _neighbours(session: Session, space: Space, page: Page, wanted: Wanted) -> Iterator[tuple[int, Found]]:
    """Each digit's place in the page and its neighbours, itself left out, for about `SECONDS`, and of one at least."""
    start = time.perf_counter()
    for first in range(0, len(page.ids), TOGETHER):
        if first and time.perf_counter() - start > SECONDS:
            return
        some = range(first, min(first + TOGETHER, len(page.ids)))
        queries = [search.Query(page.vectors[at], leave_out=page.ids[at]) for at in some]
        yield from zip(some, search.nearest(session, space.tower, space.frame, queries, wanted), strict=True)


def _position(page: Page, looked_at: int, request: Walking) -> Reply:
    """How far the walk has come: where the next page begins, unless this one is the last."""
    return {"looked_at": looked_at, "after": page.end if looked_at == len(page.ids) else page.ids[looked_at - 1]}
