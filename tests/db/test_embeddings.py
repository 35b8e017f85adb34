"""Vectors come back as they were written, and the nearest are the nearest."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sqlalchemy import select, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from db import digits
from db.bulk import copy_embeddings
from db.errors import BadVectors, NotEmbedded, UnknownKey
from db.tables import Embedding
from db.vectors import embeddings
from tests import makers
from tests.makers import (
    Array,
    Ledger,
    claim,
    digit_of,
    embed,
    finish,
    glyph,
    item,
    picked,
    send,
    stored,
    together,
    vector,
)

FINITE = arrays.arrays(np.float32, 128, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
DISTANT = 1e-3  # relative: pgvector adds up float32

same_ledger = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example stores more in the one ledger


def brute_force(ledger: Ledger, tower: int, query: Array, collection: str | None = None) -> list[tuple[str, float]]:
    """(key, distance) of every digit, nearest first."""
    found = []
    for name in ("default", "other") if collection is None else (collection,):
        for key, pixels in stored(ledger, name).items():
            own = picked(tower, np.frombuffer(pixels, np.uint8))[0].astype(np.float64)
            found.append((key, float(np.linalg.norm(own - query))))
    return sorted(found, key=lambda each: each[1])


def nearest(ledger: Ledger, tower: int, query: Array, *, collection: str | None = None, **given: Any) -> list[Any]:
    collections = None if collection is None else (collection,)
    found = makers.nearest(ledger, tower, query, collections=collections, **given)
    return [(row.key, row.distance) for row in found.neighbours]


@same_ledger
@given(vectors=st.lists(FINITE, min_size=1, max_size=5))
def test_every_finite_float32_comes_back_bit_by_bit(
    ledger: Ledger, tower_of_nothing: Callable[[], int], vectors: list[Array]
) -> None:
    """Denormals, -0.0 and the largest among them."""
    rows, first = np.stack(vectors), tower_of_nothing()
    ids = np.arange(first, first + len(rows), dtype=np.int64)

    def there_and_back(session: Session) -> Array:
        copy_embeddings(session, 1, ids, rows)
        query = select(Embedding.vector).where(Embedding.tower == 1, Embedding.digit >= first).order_by(Embedding.digit)
        return np.stack([np.asarray(vector, np.float32) for vector in session.execute(query).scalars()])

    assert ledger(there_and_back).tobytes() == rows.tobytes()


@pytest.fixture
def tower_of_nothing(ledger: Ledger, tower: int) -> Callable[[], int]:
    """Digit ids that were not used yet."""
    next_id = iter(range(0, 10**9, 100))
    assert tower == 1
    return lambda: next(next_id)


def test_the_extremes_of_float32_come_back_bit_by_bit(ledger: Ledger, tower: int) -> None:
    info = np.finfo(np.float32)
    extremes = np.array([info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 0.0], np.float32)
    row = np.resize(extremes, (1, 128))

    def there_and_back(session: Session) -> Array:
        copy_embeddings(session, tower, np.array([2**62]), row)
        return np.asarray(session.execute(select(Embedding.vector)).scalar_one(), np.float32)

    assert ledger(there_and_back).tobytes() == row.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_no_point_is_not_stored(ledger: Ledger, tower: int, bad: float) -> None:
    row = np.full((1, 128), bad, np.float32)
    with pytest.raises(DataError):
        ledger(copy_embeddings, tower, np.array([1]), row)


def test_the_nearest_are_those_of_a_brute_force_search(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, *(item(f"d{seed}", seed) for seed in range(60))))
    embed(ledger, send(ledger, *(item(f"o{seed}", 100 + seed) for seed in range(40)), collection="other"))
    for seed in range(200, 210):
        query = vector(tower, seed)
        for collection in (None, "default", "other"):
            expected = brute_force(ledger, tower, query, collection)
            for k in (1, 7, 1000):
                found = nearest(ledger, tower, query, k=k, collection=collection)
                assert [key for key, _ in found] == [key for key, _ in expected[:k]]
                assert [at for _, at in found] == pytest.approx([at for _, at in expected[:k]], rel=DISTANT)


def test_of_equally_near_digits_the_earlier_stored_comes_first(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("b", 1), item("c", 1)))
    embed(ledger, send(ledger, item("a", 1)))
    assert [key for key, _ in nearest(ledger, tower, vector(tower, 1), k=3)] == ["b", "c", "a"]
    assert [key for key, _ in nearest(ledger, tower, vector(tower, 1), k=1)] == ["b"]


def test_a_digit_can_be_left_out(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("a", 1), item("b", 2)))
    own = digit_of(ledger, "a")
    assert [key for key, _ in nearest(ledger, tower, vector(tower, 1), k=5, leave_out=own)] == ["b"]


def test_an_empty_space_has_no_nearest(ledger: Ledger, tower: int) -> None:
    assert nearest(ledger, tower, np.zeros(128, np.float32), k=5) == []


def test_a_search_during_a_finish_sees_all_of_a_batch_or_nothing(ledger: Ledger, tower: int) -> None:
    lease = claim(ledger, send(ledger, *(item(f"d{seed}", seed) for seed in range(300))))
    assert lease is not None
    seen: list[int] = []

    def search() -> None:
        while not seen or seen[-1] != 300:
            seen.append(len(nearest(ledger, tower, vector(tower, 1), k=1000)))

    together(lambda: finish(ledger, lease), search, search)
    assert set(seen) <= {0, 300}


def test_a_key_is_found_in_its_collection(ledger: Ledger) -> None:
    send(ledger, item("a", 1), collection="one")
    send(ledger, item("a", 2), item("b", 3), collection="two")
    find = {
        (key, collections): ledger(digits.find_all, [(key, collections)])[0]
        for key, collections in (("a", ("one",)), ("a", ("two",)), ("b", None), ("b", ("one", "two")))
    }
    assert len(set(find.values())) == 3 and find["b", None] == find["b", ("one", "two")]
    for key, collections, reason in (
        ("z", None, "no stored digit"),
        ("b", ("one",), "no stored digit.*'one'"),
        ("a", None, "several collections.*'one'.*'two'"),
        ("a", ("one", "two"), "several collections.*'one'.*'two'"),
        ("a\0", None, "no stored digit"),
        ("a", ("o\0",), "no stored digit"),
    ):
        with pytest.raises(UnknownKey, match=reason):
            ledger(digits.find_all, [("b", None), (key, collections)])


def test_a_vector_that_is_due_is_said_to_be(ledger: Ledger, tower: int) -> None:
    send(ledger, item("a", 1))
    with pytest.raises(NotEmbedded):
        ledger(embeddings.vectors_of, tower, [digit_of(ledger, "a")])


def test_pixels_come_with_their_ids_in_ascending_order(ledger: Ledger) -> None:
    send(ledger, *(item(f"d{9 - seed}", seed) for seed in range(9)))
    all_ids = ledger(lambda session: session.execute(text("SELECT id FROM digits ORDER BY id")).scalars().all())
    wanted = [all_ids[at] for at in (7, 0, 4, 4)]
    ids, pixels, _ = ledger(digits.pixels_of, [*wanted, 10**9])
    assert ids.tolist() == sorted(set(wanted))
    assert pixels.dtype == np.uint8
    assert [row.tobytes() for row in pixels] == [glyph(seed) for seed in (0, 4, 7)]
    none, no_pixels, _ = ledger(digits.pixels_of, [])
    assert (none.shape, no_pixels.shape) == ((0,), (0, 784))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 127), "float32"), ((3, 128), "float32"), ((256,), "float32"), ((2, 128), "float64")]
)
def test_vectors_of_the_wrong_shape_or_dtype_are_refused_with_their_towers_name(
    shape: tuple[int, ...], dtype: str
) -> None:
    with pytest.raises(ValueError, match="tower 7 gave"):
        embeddings.check(7, np.array([1, 2]), np.zeros(shape, dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused_with_their_digits(bad: float) -> None:
    found = np.zeros((3, 128), np.float32)
    found[1, 127] = bad
    with pytest.raises(BadVectors) as refused:
        embeddings.check(7, np.array([4, 5, 6]), found)
    assert (refused.value.tower, refused.value.digits) == (7, [5])
