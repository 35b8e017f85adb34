"""Every search answers as comparing all in float64 would, on whichever way it comes to its answer."""

import json
import math
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db import locks
from db.bulk import NewDigits, copy_digits, copy_embeddings, fetch
from db.queue.finish import finish as finish_batch
from db.tables import Digit, Embedding, Tower
from db.vectors import embeddings, lifecycle, search
from db.vectors.filters import Filters, described
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES
from db.vectors.search import Found, Place, Query, Wanted, distances_to
from tests.db.test_frame import SPACES, space
from tests.makers import Array, Ledger, batch_of, claim, computed, embed, item, nearest, register, send, trained

LABELS = [None, 0, 1, 2]
COLLECTIONS = ["one", "two", "three"]
ATTRIBUTES = [None, {}, {"page": 1}, {"page": 1, "ink": {"blue": True}}, {"page": 2}]

same_ledger = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example has a tower, and so a partition, of its own


@dataclass
class Store:
    """What a tower's partition holds, as a test knows it. vectors: (n, 128) float32 of digits (n,), in their order."""

    tower: int
    frame: Frame | None
    digits: Array
    vectors: Array
    labels: list[int | None]
    collections: list[str]
    attributes: list[Any]

    def passing(self, filters: Filters) -> Array:
        """(n,) bool."""
        return np.array(
            [
                (filters.label is None or label == filters.label)
                and (filters.collections is None or collection in filters.collections)
                and (filters.attributes is None or contains(attributes, json.loads(filters.attributes)))
                for label, collection, attributes in zip(self.labels, self.collections, self.attributes, strict=True)
            ],
            np.bool_,
        )

    def brute_force(self, query: Query, wanted: Wanted) -> list[tuple[float, str]]:
        """(distance, key) of everything that is asked for, nearest first."""
        distances = distances_to(query.vector, self.vectors)
        kept = self.passing(wanted.filters) & (distances <= wanted.max_distance)
        kept &= self.digits != (-1 if query.leave_out is None else query.leave_out)
        if query.after is not None:
            at, last = query.after
            kept &= (distances > at) | ((distances == at) & (self.digits > last))
        order = np.lexsort((self.digits[kept], distances[kept]))
        return [(float(distances[kept][at]), str(self.digits[kept][at])) for at in order]


def contains(attributes: Any, part: dict[str, Any]) -> bool:
    """PostgreSQL's `@>` of the few objects that stand here."""
    if attributes is None:
        return False
    return all(
        name in attributes and (contains(attributes[name], of) if isinstance(of, dict) else attributes[name] == of)
        for name, of in part.items()
    )


def store(ledger: Ledger, vectors: Array, frame: Frame | None, seed: int, *, unplaced: int = 0) -> Store:
    """Digits with these vectors under a new tower; the first `unplaced` as a version without cells wrote them."""
    count, rng = len(vectors), np.random.default_rng(seed)
    labels = [LABELS[at] for at in rng.integers(0, len(LABELS), count)]
    collections = [COLLECTIONS[at] for at in rng.integers(0, len(COLLECTIONS), count)]
    attributes = [ATTRIBUTES[at] for at in rng.integers(0, len(ATTRIBUTES), count)]

    def write(session: Session) -> tuple[int, Array]:
        locks.change_towers(session)
        file = uuid.uuid4().hex
        fields = vars(trained(file)) | {"frame": None if frame is None else frame.to_bytes()}
        tower = lifecycle.register(session, lifecycle.NewTower(**fields)).id
        ids = fetch(session, f"SELECT nextval('digits_id_seq') FROM generate_series(1, {count})")
        digits = np.array([id for (id,) in ids], np.int64)
        rows = NewDigits(
            digits,
            list(map(str, digits)),
            collections,
            np.zeros((count, 784), np.uint8),
            np.zeros((count, 32), np.uint8),
            np.zeros(16, np.uint8),
            labels,
            attributes,
            np.zeros(count, np.bool_),
        )
        copy_digits(session, rows)
        copy_embeddings(session, tower, digits[:unplaced], vectors[:unplaced])
        if count > unplaced:
            embeddings.write(session, tower, described(session, digits[unplaced:]), vectors[unplaced:])
        return tower, digits

    tower, digits = ledger(write)
    return Store(tower, frame, digits, vectors, labels, collections, attributes)


def found(
    ledger: Ledger, stored: Store, queries: Sequence[Query], wanted: Wanted, *, connections: int = 1
) -> list[Found]:
    def look_up(session: Session) -> list[Found]:
        search.begin(session)
        frame = FRAMES.of(session, stored.tower)
        return search.nearest(session, stored.tower, frame, queries, wanted, connections=connections)

    answers: list[Found] = ledger(look_up)
    return answers


def check(ledger: Ledger, stored: Store, queries: Sequence[Query], wanted: Wanted) -> list[Found]:
    """Compare answers with brute force: keys, their order, every bit of their distances, and whether more follow."""
    answers = found(ledger, stored, queries, wanted)
    for query, answer in zip(queries, answers, strict=True):
        expected = stored.brute_force(query, wanted)
        assert [(each.distance, each.key) for each in answer.neighbours] == expected[: wanted.k]
        last = expected[wanted.k - 1] if len(expected) > wanted.k else None
        assert answer.next == (None if last is None else Place(last[0], int(last[1])))
    return answers


@contextmanager
def ways(few: int, looked_at: int, most: int, streamed: int) -> Iterator[None]:
    """Other limits between the ways to an answer: a small store then goes each of them."""
    with patch.multiple(
        search,
        FEW=few,
        LOOKED_AT=looked_at,
        MOST_COMPARED=most,
        MOST_COMPARED_SHARE=0.0,
        STREAMED=streamed,
        AT_ONCE=100,
    ):
        yield


filters = st.builds(
    Filters,
    st.none() | st.lists(st.sampled_from([*COLLECTIONS, "none such"]), min_size=1).map(tuple),
    st.none() | st.sampled_from([0, 1, 2, 7]),
    st.none() | st.sampled_from([json.dumps(each) for each in ATTRIBUTES if each is not None]),
)


@same_ledger
@given(
    kind=st.sampled_from(SPACES),
    fitted_to=st.sampled_from([None, None, *SPACES]),
    count=st.integers(0, 400),
    seed=st.integers(0, 99),
    framed=st.sampled_from([True, True, True, False]),
    unplaced=st.sampled_from([0, 0, 3, 60]),
    deleted=st.sampled_from([0, 0, 20]),
    doubled=st.booleans(),
    few=st.sampled_from([0, 30, 20_000]),
    looked_at=st.sampled_from([5, 100, 3000]),
    most=st.sampled_from([0, 30, 5000]),
    streamed=st.sampled_from([7, 20_000]),
    k=st.sampled_from([1, 3, 10, 100, 1000]),
    filters=st.just(Filters()) | filters,
    reach=st.sampled_from([math.inf, math.inf, 0.0, 0.3, 1.0]),
    after=st.booleans(),
)
def test_the_nearest_are_those_of_brute_force(
    ledger: Ledger,
    kind: str,
    fitted_to: str | None,
    count: int,
    seed: int,
    framed: bool,
    unplaced: int,
    deleted: int,
    doubled: bool,
    few: int,
    looked_at: int,
    most: int,
    streamed: int,
    k: int,
    filters: Filters,
    reach: float,
    after: bool,
) -> None:
    """Towers that fit their frame, do not, or have none; digits that are alike; every filter and way to an answer."""
    rng = np.random.default_rng(seed)
    vectors = space(kind, count, seed)
    if doubled and count:
        vectors = vectors[rng.integers(0, max(1, count // 3), count)]
    frame = Frame.fit(space(fitted_to or kind, 2000, seed)) if framed else None
    stored = store(ledger, vectors, frame, seed, unplaced=min(unplaced, count))
    forget(ledger, stored, rng.permutation(count)[:deleted])
    queries = [Query(vector) for vector in space(kind, 3, seed + 1)]
    if len(stored.digits):
        at = int(rng.integers(len(stored.digits)))
        queries += [Query(stored.vectors[at]), Query(stored.vectors[at], leave_out=int(stored.digits[at]))]
        distances = distances_to(queries[0].vector, stored.vectors)
        reach = float(np.quantile(distances, reach)) if reach < math.inf else reach
        if after:
            place = Place(float(distances[at]), int(stored.digits[at]))
            queries.append(queries[0]._replace(after=place))
    with ways(few, looked_at, most, streamed):
        check(ledger, stored, queries, Wanted(k, filters, reach))


def forget(ledger: Ledger, stored: Store, rows: Array) -> None:
    """Delete some of the digits, and their vectors."""
    ids = stored.digits[rows].tolist()

    def remove(session: Session) -> None:
        locks.remove_digits(session)
        embeddings.delete_vectors(session, ids)
        session.execute(delete(Digit).where(Digit.id == func.any(ids)))

    ledger(remove)
    kept = np.setdiff1d(np.arange(len(stored.digits)), rows)
    stored.digits, stored.vectors = stored.digits[kept], stored.vectors[kept]
    for name in ("labels", "collections", "attributes"):
        setattr(stored, name, [getattr(stored, name)[at] for at in kept])


@pytest.fixture
def flat(ledger: Ledger) -> Store:
    """Ten thousand digits in a space as a contrastive loss makes it."""
    vectors = space("flat", 10_000, seed=1)
    return store(ledger, vectors, Frame.fit(space("flat", 20_000, seed=1)), seed=1)


def test_a_trained_space_is_searched_without_comparing_all(ledger: Ledger, flat: Store) -> None:
    queries = [Query(vector) for vector in space("flat", 20, seed=1)]
    answers = check(ledger, flat, queries, Wanted(10))
    assert max(answer.compared for answer in answers) < 200


def test_what_comes_first_is_the_same_alone_and_among_many(ledger: Ledger, flat: Store) -> None:
    queries = [Query(vector) for vector in space("flat", 30, seed=1)]
    together = found(ledger, flat, queries, Wanted(5))
    assert found(ledger, flat, queries, Wanted(5), connections=3) == together
    alone = [found(ledger, flat, [query], Wanted(5))[0] for query in queries]
    assert together == alone


def test_every_connection_of_a_search_sees_the_same_moment(ledger: Ledger, flat: Store) -> None:
    """Digits that are deleted while it runs are found by all of its queries."""
    queries = [Query(vector) for vector in space("flat", 4 * search.SHARE, seed=1)]
    before = found(ledger, flat, queries, Wanted(5))
    nearest_keys = {answer.neighbours[0].key for answer in before}
    rows = np.flatnonzero(np.isin(flat.digits.astype(str), list(nearest_keys)))
    began, are_few = threading.Event(), search._are_few

    def and_wait(*given: Any) -> bool:
        few = are_few(*given)
        if not began.is_set():
            began.set()
            forget(ledger, flat, rows)
        return few

    with patch.object(search, "_are_few", and_wait), patch.object(search, "_answer", wraps=search._answer) as answered:
        assert found(ledger, flat, queries, Wanted(5), connections=4) == before
    assert len({id(call.args[0]) for call in answered.call_args_list}) == 4
    assert found(ledger, flat, queries, Wanted(5)) != before


def test_without_more_connections_one_answers_all(ledger: Ledger, flat: Store) -> None:
    queries = [Query(vector) for vector in space("flat", 4 * search.SHARE, seed=1)]
    before = found(ledger, flat, queries, Wanted(5))
    lost = OperationalError("BEGIN", None, Exception("sorry, too many clients already"))
    with patch.object(search, "_in_snapshot", side_effect=lost) as refused:
        assert found(ledger, flat, queries, Wanted(5), connections=4) == before
    refused.assert_called_once()


def test_pages_follow_each_other_without_a_gap(ledger: Ledger, flat: Store) -> None:
    query = Query(space("flat", 1, seed=5)[0])
    expected = [key for _, key in flat.brute_force(query, Wanted(7))]
    pages, after = list[str](), None
    for _ in range(30):
        (answer,) = found(ledger, flat, [query._replace(after=after)], Wanted(7))
        pages += [each.key for each in answer.neighbours]
        after = answer.next
    assert pages == expected[:210]


def test_a_store_that_became_pages_ends(ledger: Ledger) -> None:
    stored = store(ledger, space("flat", 20, seed=1), None, seed=1)
    (answer,) = check(ledger, stored, [Query(stored.vectors[0])], Wanted(20))
    assert answer.next is None
    (answer,) = check(ledger, stored, [Query(stored.vectors[0])], Wanted(19))
    assert answer.next is not None


def test_a_hundred_thousand_alike_come_by_id(ledger: Ledger) -> None:
    """As many blank forms: more than are compared, so they are read in parts, and the first ids are the nearest."""
    frame = Frame.fit(space("flat", 5000, seed=1))
    vectors = np.repeat(space("flat", 10, seed=1), 1000, axis=0)
    stored = store(ledger, vectors, frame, seed=1)
    with patch.multiple(search, MOST_COMPARED=500, MOST_COMPARED_SHARE=0.0, STREAMED=300):
        check(ledger, stored, [Query(vectors[0]), Query(vectors[5000] + np.float32(1e-3))], Wanted(10))


def test_collections_with_the_same_hash_are_told_apart(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.vectors.filters.collection_hash", lambda name: 7)
    frame = Frame.fit(space("flat", 5000, seed=1))
    stored = store(ledger, space("flat", 2000, seed=1), frame, seed=1)
    queries = [Query(vector) for vector in space("flat", 5, seed=1)]
    for few in (0, 20_000):
        with patch.object(search, "FEW", few):
            check(ledger, stored, queries, Wanted(10, Filters(collections=("two",))))


def test_filters_by_cells_find_as_many_as_there_are(ledger: Ledger, flat: Store) -> None:
    queries = [Query(vector) for vector in space("flat", 5, seed=1)]
    with patch.object(search, "FEW", 0):
        for limits in (
            Filters(label=1),
            Filters(collections=("one", "three")),
            Filters(attributes='{"page": 1}'),
            Filters(collections=("two",), label=0, attributes='{"ink": {"blue": true}}'),
        ):
            for answer in check(ledger, flat, queries, Wanted(10, limits)):
                assert len(answer.neighbours) == 10
                assert answer.compared < 1500


def test_a_label_is_found_where_it_was_changed(ledger: Ledger) -> None:
    """The copy that vectors carry changes with the digit, in one transaction."""
    tower = register(ledger)
    embed(ledger, send(ledger, item("a", 1, label=1), item("b", 2, label=2)))
    send(ledger, item("a", 1, label=7))
    with patch.object(search, "LOOKED_AT", 3000):
        query = space("flat", 1, seed=1)[0]
        assert [each.key for each in nearest(ledger, tower, query, k=5, label=7).neighbours] == ["a"]
        assert nearest(ledger, tower, query, k=5, label=1).neighbours == []
    assert labels_of(ledger, tower) == [7, 2]


def labels_of(ledger: Ledger, tower: int) -> list[int]:
    query = select(Embedding.label).where(Embedding.tower == tower).order_by(Embedding.digit)
    return list(ledger(lambda session: session.execute(query).scalars().all()))


def test_a_vector_is_not_written_with_a_label_that_is_changed_meanwhile(ledger: Ledger) -> None:
    """Read before the change and written after it, it would keep the old one: the change waits for the writer."""
    tower = register(ledger)
    batch = batch_of(ledger, item("a", 1, label=1))
    lease = claim(ledger, batch)
    assert lease is not None
    ids, vectors = computed(ledger, lease)
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    changing = threading.Thread(target=lambda: send(ledger, item("a", 1, label=7)))

    def write(session: Session) -> None:
        finish_batch(session, [lease], ids, vectors, {})
        changing.start()
        while not session.execute(waiting).scalar_one():
            assert changing.is_alive()

    ledger(write)
    changing.join()
    assert labels_of(ledger, tower) == [7]


def test_the_same_weights_keep_the_frame_they_were_placed_in(ledger: Ledger) -> None:
    register(ledger, "first")
    stored = ledger(lambda session: session.execute(select(Tower.frame)).scalar_one())
    ledger(lambda session: session.execute(update(Tower).values(status="rejected")))
    other = Frame.fit(space("flat", 500, seed=3)).to_bytes()
    fields = vars(trained("first")) | {"frame": other}
    ledger(lambda session: lifecycle.register(session, lifecycle.NewTower(**fields)))
    assert ledger(lambda session: session.execute(select(Tower.frame)).scalar_one()) == stored != other
