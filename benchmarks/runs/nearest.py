"""Search a store as a worker of the lane `query` does, without a queue; and its peers, on the same vectors in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from benchmarks import brute, searchers, store
from benchmarks.place import Place
from benchmarks.processes import tell, told
from db.vectors import search
from db.vectors.filters import Filters
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES
from db.vectors.search import Found, Query, Wanted
from training.arrays import Float32
from training.model.embedder import Embedder
from training.model.storage import load

K = 10
AT_ONCE = 100
CLOSE = 1e-5  # of a distance: so much farther than the k-th a peer's neighbour may be, for float32's sake
FILTERS = {
    "attributes": Filters(attributes='{"page": 7}'),
    "rare": Filters(collections=("rare",)),
    "many": Filters(collections=("many",)),
    "label": Filters(label=7),
}


class Store:
    """The store of this run, and what is searched in it."""

    def __init__(self, place: Place, engine: Engine, count: int) -> None:
        self.embed = Embedder(load(Path(place.tower_file).read_bytes()))
        self.engine, self.tower, self.count = engine, place.tower, count
        self.ids, self.vectors, self.written = store.fill(engine, place.tower, self.embed, count)
        with Session(engine) as session:
            self.frame: Frame | None = FRAMES.of(session, place.tower)

    def find(self, vectors: Float32, wanted: Wanted) -> list[Found]:
        """As `tasks.query` does."""
        with Session(self.engine) as session, session.begin():
            search.begin(session, wanted.filters)
            return search.nearest(session, self.tower, self.frame, [Query(each) for each in vectors], wanted)

    def asked(self, kind: str, count: int) -> Float32:
        return self.embed(store.queries(kind, count, self.count))


def alone(of: Store, queries: Float32) -> dict[str, Any]:
    """One query after the other: milliseconds, and vectors compared."""
    milliseconds, compared = [], []
    for query in queries:
        start = time.perf_counter()
        (found,) = of.find(query[None], Wanted(K))
        milliseconds.append(1000 * (time.perf_counter() - start))
        compared.append(found.compared)
    return {"milliseconds": milliseconds, "compared": compared}


def together(of: Store, queries: Float32) -> dict[str, float]:
    """Milliseconds a query, AT_ONCE in one call and one after the other."""
    spent = {"one": 0.0, "many": 0.0}
    for start in range(0, len(queries) // AT_ONCE * AT_ONCE, AT_ONCE):
        block = queries[start : start + AT_ONCE]
        began = time.perf_counter()
        of.find(block, Wanted(K))
        between = time.perf_counter()
        for query in block:
            of.find(query[None], Wanted(K))
        spent["many"] += between - began
        spent["one"] += time.perf_counter() - between
    return {name: 1000 * seconds / len(queries) for name, seconds in spent.items()}


def wrong(of: Store, queries: Float32, *, k: int = K, filters: str | None = None) -> int:
    """How many answers are not float64's: another digit, another order, or another distance in any bit."""
    rows = np.arange(of.count) if filters is None else np.flatnonzero(store.passing(filters, of.count))
    k = min(k, len(rows))
    truth, count = brute.nearest(of.vectors[rows], queries, k), 0
    wanted = Wanted(k, FILTERS[filters] if filters else Filters())
    for start in range(0, len(queries), AT_ONCE):
        found = of.find(queries[start : start + AT_ONCE], wanted)
        for at, answer in enumerate(found, start):
            keys = [f"stored/{place:07}" for place in rows[truth.places[at]]]
            given = [neighbour.key for neighbour in answer.neighbours]
            distances = [neighbour.distance for neighbour in answer.neighbours]
            count += given != keys or distances != truth.distances[at].tolist()
    return count


def filtered(of: Store, queries: Float32) -> dict[str, dict[str, Any]]:
    found = {}
    for name, filters in FILTERS.items():
        milliseconds = []
        for query in queries:
            start = time.perf_counter()
            of.find(query[None], Wanted(K, filters))
            milliseconds.append(1000 * (time.perf_counter() - start))
        passing = int(store.passing(name, of.count).sum())
        found[name] = {"milliseconds": milliseconds, "passing": passing, "wrong": wrong(of, queries, filters=name)}
    return found


def beside(of: Store, peers: Sequence[searchers.Searcher], queries: Float32, strange: int) -> list[dict[str, Any]]:
    """Peers and product, query by query in turn. The last `strange` queries show no digit."""
    truth = brute.nearest(of.vectors, queries, K)

    def product(query: Any, k: int) -> Any:
        (found,) = of.find(query[None], Wanted(k))
        return np.array([int(neighbour.key.removeprefix("stored/")) for neighbour in found.neighbours])

    size = sizes(of.engine, of.tower)["index"]
    everyone = [searchers.Searcher("Twinvec", product, 0.0, size, of.written / of.count), *peers]
    spent: list[list[float]] = [[] for _ in everyone]
    of_strange: list[list[float]] = [[] for _ in everyone]
    recalls: list[list[float]] = [[] for _ in everyone]
    for at, query in enumerate(queries):
        for number, searcher in enumerate(everyone):
            if at % searcher.each:
                continue
            searcher.prepare()
            start = time.perf_counter()
            places = searcher.find(query, K)
            took = 1000 * (time.perf_counter() - start)
            (of_strange if at >= len(queries) - strange else spent)[number].append(took)
            distances = brute.distances_to(of.vectors[places], query.astype(np.float64))
            recalls[number].append(float((distances <= truth.distances[at, -1] * (1 + CLOSE)).sum()) / K)
    return [
        {
            "name": one.name,
            "milliseconds": a,
            "strange": b,
            "recalls": c,
            "built": one.built,
            "size": one.size,
            "written": one.written,
        }
        for one, a, b, c in zip(everyone, spent, of_strange, recalls, strict=True)
    ]


def sizes(engine: Engine, tower: int) -> dict[str, int]:
    """Bytes of the index that search reads, and of the vectors' table."""
    query = """
        SELECT coalesce(sum(pg_relation_size(indexrelid)) FILTER (WHERE NOT indisprimary), 0)::bigint,
            sum(DISTINCT pg_table_size(indrelid))::bigint
        FROM pg_index JOIN pg_partition_tree(CAST(:of AS regclass)) ON relid = indrelid WHERE isleaf
    """
    with engine.connect() as connection:
        index, table = connection.execute(text(query), {"of": f"embeddings_{tower}"}).one()
    return {"index": index, "table": table}


def main() -> None:
    task = told()
    place: Place = task["place"]
    with place.engine() as engine:
        of = Store(place, engine, task["count"])
        say(f"{of.count:,} stored")
        asked = {kind: of.asked(kind, task["queries"]) for kind in store.QUERIES}
        answer: dict[str, Any] = {
            "kinds": {kind: alone(of, vectors) for kind, vectors in asked.items()},
            "together": together(of, np.concatenate([asked["held out"], asked["held out, shifted"]])),
            "sizes": sizes(engine, of.tower),
        }
        say("asked one by one, and together")
        checked = {kind: of.asked(kind, task["checked"]) for kind in store.QUERIES}
        answer["wrong"] = {kind: wrong(of, vectors) for kind, vectors in checked.items()}
        answer["checked"] = {kind: len(vectors) for kind, vectors in checked.items()}
        say(f"compared with float64: {answer['wrong']}")
        answer["filters"] = filtered(of, asked["held out"])
        say("filtered")
        answer["peers"] = []
        if task["peers"]:
            pgvector = searchers.Pgvector(engine, of.tower, of.ids)
            peers = [
                pgvector.all(),
                *pgvector.hnsw(searched=(40, 200)),
                searchers.faiss_flat(of.vectors),
                searchers.usearch_hnsw(of.vectors, searched=64),
            ]
            say("built the indexes of the peers")
            mixed = np.concatenate([asked[kind] for kind in sorted(store.QUERIES, key=store.STRANGE.__contains__)])
            answer["peers"] = beside(of, peers, mixed, sum(len(asked[kind]) for kind in store.STRANGE))
            pgvector.close()
    tell(**answer)


def say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
