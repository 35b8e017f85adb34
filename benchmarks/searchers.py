"""What else finds nearest vectors: pgvector, comparing all and by an HNSW index, and libraries in a process's memory.

Each has the same vectors, built once, and answers one query at a time with the places of those it takes for nearest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import psycopg
from sqlalchemy import Engine
from usearch.index import Index

from training.arrays import Float32

HNSW = "m = 16, ef_construction = 64"  # pgvector's defaults
WRITTEN = 500  # vectors, to see what one costs
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Searcher:
    """built: seconds. size: bytes, of an index or of memory. written: seconds for one more vector, where it can be
    written to. prepare: to be done before a query, not timed. each: of so
    many queries one is asked.
    """

    name: str
    find: Callable[[Array, int], Array]  # (128,) float32, k -> (k,) places
    built: float
    size: int
    written: float | None = None
    prepare: Callable[[], None] = lambda: None
    each: int = 1


class Pgvector:
    """A table of ids and vectors in the database where the product's stand, and sessions that search it."""

    def __init__(self, engine: Engine, tower: int, ids: Array) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(url, autocommit=True)
        self._ids = ids
        self._do("SET statement_timeout = 0")
        self._do(f"CREATE TABLE peer AS SELECT digit, vector FROM embeddings WHERE tower = {tower}")
        self._do("VACUUM ANALYZE peer")

    def all(self) -> Searcher:
        """Every vector compared, as the planner does it: with its parallel workers."""
        prepare = self._setting("SET enable_indexscan = off; SET enable_seqscan = on")
        return Searcher("pgvector, all compared", self._find, 0.0, 0, prepare=prepare, each=10)

    def hnsw(self, *, searched: tuple[int, ...]) -> list[Searcher]:
        """By an HNSW index, with so many candidates in a search (`hnsw.ef_search`)."""
        start = time.perf_counter()
        self._do("SET maintenance_work_mem = '4GB'")
        self._do(f"CREATE INDEX peer_hnsw ON peer USING hnsw (vector vector_l2_ops) WITH ({HNSW})")
        built = time.perf_counter() - start
        size = int(self._connection.execute("SELECT pg_relation_size('peer_hnsw')").fetchone()[0])  # type: ignore[index]
        written = self._written()
        return [
            Searcher(
                f"pgvector HNSW, ef_search {ef}",
                self._find,
                built,
                size,
                written,
                self._setting(f"SET enable_indexscan = on; SET enable_seqscan = off; SET hnsw.ef_search = {ef}"),
            )
            for ef in searched
        ]

    def close(self) -> None:
        self._connection.close()

    def _written(self) -> float:
        with self._connection.transaction(force_rollback=True):
            start = time.perf_counter()
            self._do(f"INSERT INTO peer SELECT -digit, vector FROM peer LIMIT {WRITTEN}")
            return (time.perf_counter() - start) / WRITTEN

    def _find(self, query: Array, k: int) -> Array:
        vector = f"[{','.join(map(str, query.tolist()))}]"
        rows = self._connection.execute(
            "SELECT digit FROM peer ORDER BY vector <-> %s::vector LIMIT %s", (vector, k), binary=True
        ).fetchall()
        return np.searchsorted(self._ids, [id for (id,) in rows])

    def _setting(self, statements: str) -> Callable[[], None]:
        return lambda: self._do(statements)

    def _do(self, statement: str) -> None:
        self._connection.execute(statement.encode())


def faiss_flat(vectors: Float32) -> Searcher:
    """Every vector compared, in memory."""
    start = time.perf_counter()
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    built = time.perf_counter() - start
    return Searcher("FAISS flat, in memory", lambda query, k: index.search(query[None], k)[1][0], built, vectors.nbytes)


def usearch_hnsw(vectors: Float32, *, searched: int) -> Searcher:
    """An HNSW graph, in memory, at the library's defaults but for the candidates in a search."""
    start = time.perf_counter()
    index = Index(ndim=vectors.shape[1], metric="l2sq", dtype="f32", expansion_search=searched)
    index.add(np.arange(len(vectors)), vectors)
    built = time.perf_counter() - start
    return Searcher(
        f"usearch HNSW, {searched} candidates, in memory",
        lambda query, k: np.asarray(index.search(query, k).keys, np.int64),
        built,
        index.memory_usage,
    )
