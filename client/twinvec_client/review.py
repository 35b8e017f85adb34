"""Walks through what is stored, page by page and in bounded memory. It must not know how a page is found."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from twinvec_client import bars, vectors
from twinvec_client.connection import Connection
from twinvec_client.contract.answers import Duplicate, Suspect
from twinvec_client.contract.limits import MAX_COUNTED, MAX_PAGE, MAX_SAMPLING
from twinvec_client.contract.messages import FindDuplicates, FindSuspects, ListVectors
from twinvec_client.fields import read_distance, read_integer
from twinvec_client.projection import project
from twinvec_client.results import Duplicates, Map, MapPoint, Suspects
from twinvec_client.vectors import Vectors

_SEARCHED = 50  # digits of a page whose neighbours are looked up; the worker may do fewer
MOST_LISTED = 10_000
MOST_MAPPED = 100_000  # 51 MB of vectors
_MANY = MAX_COUNTED

Page = dict[str, Any]
T = TypeVar("T")


def suspects(
    connection: Connection, *, collection: str | None, limit: int, most: int | None, pictures: bool, progress: bool
) -> Suspects:
    """The most probable ones; see `Twinvec.suspects`."""
    limit = read_integer("limit", limit, MOST_LISTED)
    kept: dict[tuple[str, str], Suspect] = {}
    walk = _Walk(collection, most)

    def page(**place: Any) -> Page:
        return connection.ask(FindSuspects(**place, pictures=pictures))

    for answer in walk.pages(page, _SEARCHED, "look at labels", progress):
        for found in map(Suspect.read, answer["suspects"]):
            kept[found.collection, found.key] = found
        if len(kept) > 2 * limit:
            kept = _best(kept, limit, _doubt)
    return Suspects(
        tower=walk.tower,
        looked_at=walk.looked_at,
        complete=walk.complete,
        suspects=list(_best(kept, limit, _doubt).values()),
    )


def duplicates(
    connection: Connection,
    *,
    distance: float | None,
    collection: str | None,
    limit: int,
    most: int | None,
    pictures: bool,
    progress: bool,
) -> Duplicates:
    """The nearest pairs; see `Twinvec.duplicates`."""
    limit = read_integer("limit", limit, MOST_LISTED)
    distance = read_distance("distance", distance)
    kept: dict[frozenset[tuple[str, str]], Duplicate] = {}
    walk, taken = _Walk(collection, most), distance

    def page(**place: Any) -> Page:
        return connection.ask(FindDuplicates(**place, distance=distance, pictures=pictures))

    for answer in walk.pages(page, _SEARCHED, "look for pairs", progress):
        taken = answer["distance"]
        for found in map(Duplicate.read, answer["duplicates"]):
            pair = frozenset({(found.collection, found.key), (found.other.collection, found.other.key)})
            kept.setdefault(pair, found)  # found from its other digit as well
        if len(kept) > 2 * limit:
            kept = _best(kept, limit, _distance)
    return Duplicates(
        tower=walk.tower,
        distance=taken if taken is not None else 0.0,
        looked_at=walk.looked_at,
        complete=walk.complete,
        pairs=list(_best(kept, limit, _distance).values()),
    )


def project_collection(connection: Connection, *, collection: str | None, most: int, progress: bool) -> Map:
    """Two principal components of the vectors of a sample; see `Twinvec.map`."""
    found = sample(connection, collection=collection, most=most, progress=progress)
    projected = project(found.vectors)
    points = zip(found.keys, found.collections, found.labels, projected.places.tolist(), strict=True)
    return Map(
        tower=found.tower,
        stored=found.stored,
        explained=projected.explained,
        points=[MapPoint(key, of, label, x, y) for key, of, label, (x, y) in points],
    )


def vector_pages(connection: Connection, *, collection: str | None, progress: bool) -> Iterator[Vectors]:
    """See `Twinvec.vector_pages`."""

    def page(**place: Any) -> Page:
        return connection.ask(ListVectors(**place, every=1))

    for answer in _Walk(collection, None).pages(page, MAX_PAGE, "read vectors", progress):
        if answer["keys"]:
            yield vectors.read(answer)


@dataclass(frozen=True, eq=False)
class Sample(Vectors):
    """stored: how many there are in all, about."""

    stored: int


def sample(connection: Connection, *, collection: str | None, most: int, progress: bool) -> Sample:
    """About so many digits, always the same ones, or all of them."""
    most = read_integer("most", most, MOST_MAPPED)
    first = connection.ask(
        ListVectors(collection=collection, after=0, limit=1, count=_MANY, tower=None, every=1)
    )  # how many there are says how many are left out
    every = min(max(1, math.ceil((first["total"] or 0) / most)), MAX_SAMPLING)
    walk = _Walk(collection, None, tower=first["tower"])

    def page(**place: Any) -> Page:
        return connection.ask(ListVectors(**place, every=every))

    pages = map(vectors.read, walk.pages(page, MAX_PAGE, "read vectors", progress))
    return Sample(**vars(vectors.joined(pages, first["tower"])), stored=first["total"] or 0)


class _Walk:
    """The pages of one walk, all under one tower. most: digits to look at; None for all."""

    def __init__(self, collection: str | None, most: int | None, tower: str | None = None) -> None:
        self.collection = collection
        self.most = None if most is None else read_integer("most", most, _MANY)
        self._tower = tower
        self.looked_at = 0
        self.complete = False

    @property
    def tower(self) -> str:
        """The fingerprint of the tower that answered."""
        assert self._tower is not None, "no page was asked for"
        return self._tower

    def pages(self, ask: Callable[..., Page], size: int, what: str, progress: bool) -> Iterator[Page]:
        after: int | None = 0
        with bars.bar(progress, what) as bar:
            while after is not None and (self.most is None or self.looked_at < self.most):
                answer = ask(
                    collection=self.collection,
                    after=after,
                    limit=size if self.most is None else min(size, self.most - self.looked_at),
                    count=(self.most or _MANY) if progress and not after else 0,
                    tower=self._tower,
                )
                if answer["total"] is not None:
                    bar.expect(answer["total"])
                self._tower, after = answer["tower"], answer["after"]
                self.looked_at += answer["looked_at"]
                bar.advance(answer["looked_at"])
                yield answer
        self.complete = after is None


def _best(kept: dict[Any, T], limit: int, order: Callable[[T], tuple[float, ...]]) -> dict[Any, T]:
    """The first `limit` of them in their order; what was found first goes before its equals."""
    return dict(heapq.nsmallest(limit, kept.items(), key=lambda item: order(item[1])))


def _doubt(suspect: Suspect) -> tuple[float, ...]:
    """The most probable other label first; without probabilities, the one with the nearest neighbour."""
    nearest = suspect.neighbours[0].distance if suspect.neighbours else math.inf
    return -(suspect.probability or 0.0), nearest


def _distance(duplicate: Duplicate) -> tuple[float, ...]:
    return duplicate.distance, not duplicate.same_pixels
