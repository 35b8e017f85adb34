"""The nearest stored digits of vectors, exactly: what comparing all in float64 would give, and mostly without doing it.

Two statements in one snapshot. The first compares those that look nearest by their small vectors, in the nearest cells:
the k-th distance is a bound. The second compares every vector that the frame does not prove to be farther than that.
Where most would have to be compared, or a filter lets few digits through, those are compared, and no cell is read.

The database's own distances are float32 and order nothing here: they choose what comes back, with room for their
rounding, and float64 decides. It must not know where a query came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from db.bulk import cursor, fetch, sent_vectors
from db.vectors.filters import Filters
from db.vectors.frame import LARGE, UNPLACED, Frame, View

Array = np.ndarray[Any, Any]

_UNLIMITED = Filters()
FEW = 20_000  # digits that a filter lets through: so many are compared faster than found by cells
NEAREST_CELLS = 64  # that a bound is looked for in, at first
LOOKED_AT = 800  # small vectors that a bound is looked for among, and 20 for each neighbour asked for
SPARE = 10  # vectors compared for a bound beyond the neighbours asked for: it is tighter
WIDE = 0.5  # of the vectors: where so many lie in the cells that remain, comparing all is faster
MOST_COMPARED = 5_000  # of those that remain; beyond, all are compared
FAIRLY_WIDE = 0.2  # of the vectors: where so many lie in the cells that remain, it may be this share of all instead
MOST_COMPARED_SHARE = 0.05
AT_ONCE = 20_000  # neighbours asked for in one statement, of all queries
TOGETHER = 100  # queries in one statement: MOST_COMPARED vectors may come back for each
SHARE = 8  # queries that are worth a connection of their own
OTHER_LIMIT = 1.0  # seconds that another connection is waited for: all may be held by searches that wait for one
STREAMED = 20_000  # vectors that are read at a time where the database cannot choose

# pgvector adds up 128 squares in float32: off by at most 130 u = 8e-6 of their sum, half of that of its root.
_LOOSE = 1e-5
_TINY = 1e-18  # more than float32's underflow takes from a distance

_SETTINGS = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off;
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_memoize = off;
"""
# Cells are read in the index alone. The planner does not know how few rows a small vector's condition leaves.
_INDEX_ONLY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
_ANY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = on; SET LOCAL effective_io_concurrency = 0"
_ANY_SCAN = "SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on"
_SCANS = "scans"  # where a session notes which of these it has


class Way(StrEnum):
    """How a query was answered."""

    CELLS = "cells"  # most vectors were proven to be farther
    FILTER = "filter"  # a filter let few digits through, and those were compared
    ALL = "all"  # all vectors were compared


class Neighbour(NamedTuple):
    """A stored digit, and its Euclidean distance to what was asked for. attributes: JSON, as text."""

    key: str
    collection: str
    distance: float
    label: int | None
    attributes: str | None
    picture: bytes | None = None


class Place(NamedTuple):
    """Where an answer ended: what follows is farther, or as far with a higher id."""

    distance: float
    digit: int


class Query(NamedTuple):
    """vector: (128,) float32, finite. leave_out: a digit's id. after: only what follows this."""

    vector: Array
    leave_out: int | None = None
    after: Place | None = None


class Wanted(NamedTuple):
    """k neighbours of those that pass the filters and are no farther than `max_distance`; with their pixels or not."""

    k: int
    filters: Filters = Filters()
    max_distance: float = math.inf
    pictures: bool = False


class Found(NamedTuple):
    """Nearest first, equal distances by id. compared: vectors. next: where more follow; None where none do."""

    neighbours: list[Neighbour]
    compared: int
    next: Place | None
    way: Way


def begin(session: Session, filters: Filters = _UNLIMITED) -> None:
    """Prepare a transaction for `nearest`, before its first statement: all of it sees the store at one moment.

    filters: those that it will have, if they are known; it then begins a little sooner.
    """
    _run(session, _beginning(session, filters))


def begin_with(session: Session, query: str, filters: Filters = _UNLIMITED) -> list[tuple[Any, ...]]:
    """As `begin`; the rows of a first query, without parameters, which is sent along: one journey for both."""
    with cursor(session, query) as driver:
        driver.execute(f"{_beginning(session, filters)}; {query}", prepare=False)
        while driver.nextset():
            pass
        return list(driver.fetchall())


def _beginning(session: Session, filters: Filters) -> str:
    scans = session.info[_SCANS] = _ANY_INDEX if _may_let_few_through(filters) else _INDEX_ONLY
    return _SETTINGS + scans


def nearest(
    session: Session,
    tower: int,
    frame: Frame | None,
    queries: Sequence[Query],
    wanted: Wanted,
    *,
    connections: int = 1,
) -> list[Found]:
    """For each query the nearest digits under a tower, in a transaction that `begin` has begun.

    frame: the tower's own; None where it has none. connections: that many queries are shared out among, this one and
    others of its engine that see the same snapshot; fewer where no more are to be had.
    """
    searches = [_Search(query, wanted) for query in queries]
    few = _are_few(session, tower, wanted.filters)
    answer = partial(_answer, tower=tower, frame=frame, few=few)
    with _others(session, min(connections, len(searches) // SHARE) - 1, few=few) as others:
        if not others:
            answer(session, searches)
        else:
            every = 1 + len(others)
            with ThreadPoolExecutor(len(others)) as threads:
                shares = [threads.submit(answer, one, searches[at::every]) for at, one in enumerate(others, 1)]
                answer(session, searches[::every])
                for share in shares:
                    share.result()
    return _described(session, searches, wanted)


def _answer(session: Session, searches: Sequence[_Search], *, tower: int, frame: Frame | None, few: bool) -> None:
    if not searches:
        return
    size = max(1, min(TOGETHER, AT_ONCE // (searches[0].wanted.k + SPARE)))
    for start in range(0, len(searches), size):
        block = searches[start : start + size]
        rest = block if few or frame is None else _prune(session, tower, frame, block)
        for search in rest:
            search.way = Way.FILTER if few else Way.ALL
            _compare(session, tower, search, few=few)


@contextmanager
def _others(session: Session, count: int, *, few: bool) -> Iterator[list[Session]]:
    """So many more transactions in the snapshot of this one, each on a connection of its own, or as many as can be had.

    https://www.postgresql.org/docs/current/functions-admin.html, "Snapshot Synchronization Functions".
    """
    with ExitStack() as opened:
        others: list[Session] = []
        if count > 0:
            ((snapshot,),) = fetch(session, "SELECT pg_export_snapshot()")
            engine = session.get_bind()
            with suppress(DBAPIError, NoConnection):
                while isinstance(engine, Engine) and len(others) < count:
                    others.append(opened.enter_context(_in_snapshot(engine, snapshot, few=few)))
        yield others


@contextmanager
def _in_snapshot(engine: Engine, snapshot: str, *, few: bool) -> Iterator[Session]:
    with engine.connect() as connection, Session(connection) as session:
        driver: Any = connection.connection.driver_connection
        driver.limit, usual = OTHER_LIMIT, driver.limit
        begin(session)
        _run(session, f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        if few:
            _allow(session, _ANY_INDEX)
        driver.limit = usual
        yield session


@dataclass
class _Search:
    """A query while it is answered. distances, digits: the best so far, in order, one more than asked for at most."""

    query: Query
    wanted: Wanted
    distances: Array = field(default_factory=lambda: np.empty(0))
    digits: Array = field(default_factory=lambda: np.empty(0, np.int64))
    looked_at: Array = field(default_factory=lambda: np.empty(0))  # distances of the small vectors of the first look
    compared: int = 0
    way: Way = Way.CELLS

    @property
    def count(self) -> int:
        return self.wanted.k + 1  # whether more follow is known by the first of them

    @property
    def farthest(self) -> float:
        """No farther than this are all that are looked for."""
        last = float(self.distances[-1]) if len(self.distances) == self.count else math.inf
        return min(last, self.wanted.max_distance)

    @property
    def nearest(self) -> float:
        """No nearer than this are all that are looked for."""
        return self.query.after.distance if self.query.after is not None else 0.0

    @property
    def leave_out(self) -> int:
        return -1 if self.query.leave_out is None else self.query.leave_out

    def take(self, digits: Array, vectors: Array) -> None:
        """Keep the best of these, ids (n,) and vectors (n, 128) float32, and none of those before."""
        distances = distances_to(self.query.vector, vectors)
        kept = (distances <= self.wanted.max_distance) & (digits != self.leave_out)
        if self.query.after is not None:
            at, last = self.query.after
            kept &= (distances > at) | ((distances == at) & (digits > last))
        distances, digits = distances[kept], digits[kept]
        order = np.lexsort((digits, distances))[: self.count]
        self.distances, self.digits = distances[order], digits[order]


def distances_to(query: Array, vectors: Array) -> Array:
    """(n,) float64: the Euclidean distances of vectors (n, 128) float32 to one (128,), the same for a row in any n."""
    squares = np.square(vectors.astype(np.float64) - query.astype(np.float64))
    distances: Array = np.sqrt(squares.sum(axis=1))
    return distances


def _are_few(session: Session, tower: int, filters: Filters) -> bool:
    """Whether a filter lets so few digits through that comparing those is the fastest; any index may be used then."""
    if filters.attributes is not None:
        condition, parameters = filters.of_digits("d")
        matching = f"SELECT FROM digits AS d WHERE {condition}"
    elif filters.collections is not None:
        matching = f"SELECT FROM embeddings AS e WHERE e.tower = {tower} AND e.collection_hash = ANY(%s::integer[])"
        parameters = [filters.hashes()]
    else:
        return False
    unplaced = f"SELECT FROM embeddings AS e WHERE e.tower = {tower} AND e.cell = {UNPLACED}"
    counts = [f"(SELECT count(*) FROM ({rows} LIMIT {FEW + 1}) AS counted)" for rows in (matching, unplaced)]
    _allow(session, _ANY_INDEX)
    ((matches, others),) = fetch(session, f"SELECT {', '.join(counts)}", parameters, prepare=True)
    return bool(matches <= FEW and others <= FEW)


def _may_let_few_through(filters: Filters) -> bool:
    return filters.attributes is not None or filters.collections is not None


def _prune(session: Session, tower: int, frame: Frame, searches: Sequence[_Search]) -> list[_Search]:
    """Answer by cells; the searches that are left, because too many vectors would have to be compared."""
    _allow(session, _INDEX_ONLY)
    views = [(search, frame.view(search.query.vector)) for search in searches]
    usable = [(search, view) for search, view in views if view.is_usable]
    filtered = searches[0].wanted.filters != Filters()
    _look_near(session, tower, usable, None if filtered else NEAREST_CELLS)
    if not filtered:
        _look_near(session, tower, [each for each in usable if each[0].farthest == math.inf], None)
    bounded = [(search, view, view.cells_within(search.farthest)) for search, view in usable if search.farthest < LARGE]
    narrow = [each for each in bounded if each[1].share(each[2]) <= WIDE]
    done = set(_look_within(session, tower, narrow))
    return [search for search in searches if id(search) not in done]


_Viewed = tuple[_Search, View]


def _look_near(session: Session, tower: int, searches: Sequence[_Viewed], cells: int | None) -> None:
    """Take the best of those whose small vectors are nearest, in so many of the nearest cells, or in any."""
    if not searches:
        return
    wanted = searches[0][0].wanted
    of_vectors, vector_parameters = wanted.filters.of_vectors("e")
    recheck, digit_parameters = _recheck("near.digit", wanted.filters)
    most, looked_at = wanted.k + 1 + SPARE, LOOKED_AT + 20 * wanted.k
    query = f"""
        SELECT q.n, found.digit, found.distance, found.vector FROM (
            SELECT n, small, cells::smallint[] AS cells, least
            FROM unnest(%s::integer[], %s::vector[], %s::text[], %s::float8[]) AS given (n, small, cells, least)
            OFFSET 0
        ) AS q CROSS JOIN LATERAL (
            SELECT near.digit, near.distance, v.vector FROM (
                SELECT e.digit, e.distance FROM (
                    SELECT e.digit, e.small <-> q.small AS distance
                    FROM unnest(q.cells) AS c (cell) CROSS JOIN LATERAL (
                        SELECT e.digit, e.small FROM embeddings AS e
                        WHERE e.tower = {tower} AND e.cell = c.cell AND {of_vectors} OFFSET 0
                    ) AS e
                    LIMIT %s
                ) AS e
                WHERE e.distance >= q.least ORDER BY e.distance LIMIT %s
            ) AS near CROSS JOIN LATERAL (
                SELECT v.vector FROM embeddings AS v WHERE v.tower = {tower} AND v.digit = near.digit OFFSET 0
            ) AS v {recheck}
            LIMIT %s
        ) AS found
    """
    parameters = [
        list(range(len(searches))),
        _array(_vector(view.small) for _, view in searches),
        [_cells(view.nearest_cells(cells)) for _, view in searches],
        [search.nearest for search, _ in searches],
        *vector_parameters,
        looked_at,
        most if wanted.filters.attributes is None else looked_at,  # who has the attributes shows only afterwards
        *digit_parameters,
        most,
    ]
    rows = _by_query(fetch(session, query, parameters, prepare=True), len(searches))
    for (search, _), found in zip(searches, rows, strict=True):
        search.looked_at = np.array([row[2] for row in found])
        search.take(*_vectors((row[1], row[3]) for row in found))


def _look_within(session: Session, tower: int, searches: Sequence[tuple[_Search, View, Array]]) -> list[int]:
    """Compare all that the frame does not exclude; the `id` of each search that is answered by it."""
    if not searches:
        return []
    wanted = searches[0][0].wanted
    of_vectors, vector_parameters = wanted.filters.of_vectors("e")
    recheck, digit_parameters = _recheck("near.digit", wanted.filters)
    most = MOST_COMPARED + 4 * wanted.k
    if max(view.share(cells) for _, view, cells in searches) > FAIRLY_WIDE:
        most = max(most, int(MOST_COMPARED_SHARE * _estimated(session, tower)))
    query = f"""
        SELECT q.n, near.compared, found.digit, found.vector FROM (
            SELECT n, small, cells::smallint[] AS cells, bound, vector, farthest
            FROM unnest(%s::integer[], %s::vector[], %s::text[], %s::float8[], %s::vector[], %s::float8[])
                AS given (n, small, cells, bound, vector, farthest)
            OFFSET 0
        ) AS q CROSS JOIN LATERAL (
            SELECT count(*) AS compared, array_agg(e.digit) AS digits FROM (
                SELECT e.digit FROM embeddings AS e
                WHERE e.tower = {tower} AND e.cell = ANY(q.cells)
                    AND (e.cell = {UNPLACED} OR (e.small <-> q.small <= q.bound AND {of_vectors}))
                LIMIT %s
            ) AS e
        ) AS near LEFT JOIN LATERAL (
            SELECT v.digit, v.vector FROM unnest(near.digits) AS near (digit) CROSS JOIN LATERAL (
                SELECT v.digit, v.vector FROM embeddings AS v
                WHERE v.tower = {tower} AND v.digit = near.digit AND v.vector <-> q.vector <= q.farthest OFFSET 0
            ) AS v {recheck}
        ) AS found ON true
    """
    bounds = [view.small_bound(search.farthest) for search, view, _ in searches]
    parameters = [
        list(range(len(searches))),
        _array(_vector(view.small) for _, view, _ in searches),
        [_cells(np.append(cells, UNPLACED)) for *_, cells in searches],
        bounds,
        _array(_vector(search.query.vector) for search, *_ in searches),
        [search.farthest * (1 + _LOOSE) + _TINY for search, *_ in searches],
        *vector_parameters,
        most + 1,
        *digit_parameters,
    ]
    rows = _by_query(fetch(session, query, parameters, prepare=True), len(searches))
    done = []
    for (search, *_), bound, found in zip(searches, bounds, rows, strict=True):
        compared = found[0][1]
        if compared <= most:
            search.take(*_vectors((row[2], row[3]) for row in found if row[2] is not None))
            search.compared = compared + int((search.looked_at > bound).sum())
            done.append(id(search))
    return done


def _compare(session: Session, tower: int, search: _Search, *, few: bool) -> None:
    """Compare every vector that passes the filters."""
    filters = search.wanted.filters
    if filters == Filters() or filters.attributes is not None or not _compare_carried(session, tower, search, few=few):
        _compare_from(session, tower, search, *_source(tower, filters, few=few), few=few)
    if not few:
        _allow(session, _INDEX_ONLY)


def _compare_carried(session: Session, tower: int, search: _Search, *, few: bool) -> bool:
    """Compare by what vectors carry of their digits, and look at the digits of the best alone.

    False where one of the best is of another collection, whose name has the same hash.
    """
    filters, best = search.wanted.filters, search.count + SPARE
    of_vectors, carried = filters.of_vectors("e")
    of_digits, described = filters.of_digits("d")
    vector = _vector(search.query.vector)
    carrying = f"""
        SELECT e.digit, e.vector FROM embeddings AS e
        WHERE e.tower = {tower} AND e.cell <> {UNPLACED} AND {of_vectors}
        UNION ALL
        SELECT e.digit, e.vector FROM embeddings AS e JOIN digits AS d ON d.id = e.digit AND {of_digits}
        WHERE e.tower = {tower} AND e.cell = {UNPLACED}
    """
    query = f"""
        SELECT best.digit, best.distance, best.compared, v.vector, d.passes FROM (
            SELECT e.digit, e.distance, {"count(*) OVER ()" if few else "0"} AS compared FROM (
                SELECT e.digit, e.vector <-> %s::vector AS distance FROM ({carrying}) AS e
                WHERE e.digit <> %s AND e.vector <-> %s::vector >= %s OFFSET 0
            ) AS e
            ORDER BY 2, 1 LIMIT %s
        ) AS best CROSS JOIN LATERAL (
            SELECT v.vector FROM embeddings AS v WHERE v.tower = {tower} AND v.digit = best.digit OFFSET 0
        ) AS v LEFT JOIN LATERAL (
            SELECT true AS passes FROM digits AS d WHERE d.id = best.digit AND {of_digits} OFFSET 0
        ) AS d ON true
    """
    parameters = [*carried, *described, search.leave_out, vector, _least(search), best, *described]
    if not few:
        _allow(session, _ANY_SCAN)
    rows = fetch(session, query, [vector, *parameters])
    if not all(passes for *_, passes in rows):
        return False
    search.take(*_vectors((row[0], row[3]) for row in rows))
    if few:
        search.compared = rows[0][2] if rows else 0
    else:
        ((search.compared,),) = fetch(session, f"SELECT count(*) FROM ({carrying}) AS e", [*carried, *described])
    _finish(session, tower, search, rows, *_source(tower, filters, few=few))
    return True


def _compare_from(
    session: Session, tower: int, search: _Search, source: str, parameters: Sequence[Any], *, few: bool
) -> None:
    """Compare every vector of a source."""
    counted = "count(*) OVER ()" if few else "0"
    vector = _vector(search.query.vector)
    query = f"""
        SELECT best.digit, best.distance, best.compared, v.vector FROM (
            SELECT e.digit, e.vector <-> %s::vector AS distance, {counted} AS compared FROM {source}
            WHERE e.tower = {tower} AND e.digit <> %s AND e.vector <-> %s::vector >= %s
            ORDER BY 2, 1 LIMIT %s
        ) AS best CROSS JOIN LATERAL (
            SELECT v.vector FROM embeddings AS v WHERE v.tower = {tower} AND v.digit = best.digit OFFSET 0
        ) AS v
    """
    if not few:
        _allow(session, _ANY_SCAN)
    asked = [vector, *parameters, search.leave_out, vector, _least(search), search.count + SPARE]
    rows = fetch(session, query, asked)
    search.take(*_vectors((row[0], row[3]) for row in rows))
    _finish(session, tower, search, rows, source, parameters)
    if few:
        search.compared = rows[0][2] if rows else 0
    else:
        counting = f"SELECT count(*) FROM {source} WHERE e.tower = {tower}"
        ((search.compared,),) = fetch(session, counting, parameters)


def _least(search: _Search) -> float:
    """No vector nearer than this, as float32 sees it, is looked for."""
    return min(search.nearest, LARGE) * (1 - _LOOSE) - _TINY


def _finish(
    session: Session, tower: int, search: _Search, rows: list[tuple[Any, ...]], source: str, parameters: Sequence[Any]
) -> None:
    """Read on where what did not come back may be as near: it is no nearer than the last row, as float32 sees it."""
    all_came = len(rows) < search.count + SPARE
    if not all_came and not search.farthest < rows[-1][1] * (1 - _LOOSE) - _TINY < LARGE:
        _stream(session, tower, search, source, parameters)


def _stream(session: Session, tower: int, search: _Search, source: str, parameters: Sequence[Any]) -> None:
    """Compare every vector here: very many are equally near, or numbers are too large for float32 to tell."""
    farthest = search.farthest * (1 + _LOOSE) + _TINY
    within = f"e.vector <-> %s::vector <= {farthest!r}" if farthest < LARGE else "%s::vector IS NOT NULL"
    query = f"""
        SELECT e.digit, e.vector FROM {source} WHERE e.tower = {tower} AND {within} AND e.digit > %s
        ORDER BY e.digit LIMIT {STREAMED}
    """
    vector, last = _vector(search.query.vector), -1
    digits, vectors = _vectors([])
    while True:
        some, their = _vectors(fetch(session, query, [*parameters, vector, last]))
        digits, vectors = np.concatenate([digits, some]), np.concatenate([vectors, their])
        search.take(digits, vectors)
        if len(some) < STREAMED:
            return
        last, best = int(some[-1]), np.isin(digits, search.digits)
        digits, vectors = digits[best], vectors[best]


def _source(tower: int, filters: Filters, *, few: bool) -> tuple[str, list[Any]]:
    """What `FROM` names, and its parameters: the vectors, as `e`, of all digits that pass the filters."""
    if filters == Filters():
        return "embeddings AS e", []
    condition, parameters = filters.of_digits("d")
    if not few:
        return f"embeddings AS e JOIN digits AS d ON d.id = e.digit AND {condition}", parameters
    if filters.attributes is not None:
        matching, first = f"SELECT d.id FROM digits AS d WHERE {condition} OFFSET 0", parameters
        recheck, then = "", list[Any]()
    else:
        rows = f"SELECT e.digit AS id FROM embeddings AS e WHERE e.tower = {tower} AND"
        matching = f"""
            {rows} e.collection_hash = ANY(%s::integer[]) AND e.cell <> {UNPLACED}
            UNION ALL {rows} e.cell = {UNPLACED}
        """
        first = [filters.hashes()]
        recheck, then = _recheck("m.id", filters)
    vectors = f"""
        CROSS JOIN LATERAL (
            SELECT e.tower, e.digit, e.vector FROM embeddings AS e WHERE e.tower = {tower} AND e.digit = m.id OFFSET 0
        ) AS e
    """
    return f"({matching}) AS m {vectors} {recheck}", [*first, *then]


def _recheck(digit: str, filters: Filters) -> tuple[str, list[Any]]:
    """A join, and its parameters, that lets only a digit's row through which passes the filters."""
    if filters == Filters():
        return "", []
    condition, parameters = filters.of_digits("d")
    return (
        f"CROSS JOIN LATERAL (SELECT FROM digits AS d WHERE d.id = {digit} AND {condition} OFFSET 0) AS d",
        parameters,
    )


def _estimated(session: Session, tower: int) -> int:
    """About how many vectors a tower has, by the size of its tables: one takes 0.65 kB."""
    ((size,),) = fetch(
        session,
        "SELECT coalesce(sum(pg_relation_size(relid)), 0)::bigint FROM pg_partition_tree(%s) WHERE isleaf",
        [f"embeddings_{tower}"],
        prepare=True,
    )
    return int(size) // 650


def _described(session: Session, searches: Sequence[_Search], wanted: Wanted) -> list[Found]:
    """What is known of the digits that were found."""
    ids = {digit for search in searches for digit in search.digits[: wanted.k].tolist()}
    pixels = "pixels" if wanted.pictures else "NULL::bytea"
    query = f"SELECT id, key, collection, label, attributes::text, {pixels} FROM digits WHERE id = ANY(%s::bigint[])"
    rows = fetch(session, query, [list(ids)], prepare=True) if ids else []
    digits = {id: rest for id, *rest in rows}
    answers = []
    for search in searches:
        found = list(zip(search.distances.tolist(), search.digits.tolist(), strict=True))
        neighbours = [
            Neighbour(key, collection, distance, label, attributes, picture)
            for distance, digit in found[: wanted.k]
            for key, collection, label, attributes, picture in [digits[digit]]
        ]
        following = Place(*found[wanted.k - 1]) if len(found) > wanted.k else None
        answers.append(Found(neighbours, search.compared, following, search.way))
    return answers


def _allow(session: Session, scans: str) -> None:
    """Have what follows in the transaction planned with these scans; each change is a journey to the server."""
    if session.info[_SCANS] != scans:
        _run(session, scans)
        session.info[_SCANS] = scans


def _run(session: Session, statements: str) -> None:
    with cursor(session, statements) as driver:
        driver.execute(statements, prepare=False)


def _by_query(rows: Iterable[tuple[Any, ...]], count: int) -> list[list[tuple[Any, ...]]]:
    """The rows of each query, whose number stands first in them."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in range(count)]
    for row in rows:
        found[row[0]].append(row)
    return found


def _vectors(rows: Iterable[tuple[int, bytes]]) -> tuple[Array, Array]:
    """(id, vector as it is sent) each -> (n,) int64, (n, 128) float32."""
    rows = list(rows)
    return np.array([id for id, _ in rows], np.int64), sent_vectors([vector for _, vector in rows])


def _vector(numbers: Array) -> str:
    return f"[{','.join(map(repr, numbers.astype(np.float32).astype(np.float64).tolist()))}]"


def _array(texts: Iterable[str]) -> str:
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"


def _cells(cells: Array) -> str:
    return "{" + ",".join(map(str, cells.tolist())) + "}"
