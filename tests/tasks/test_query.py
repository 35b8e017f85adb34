"""The nearest stored digits of pictures, keys and vectors, and every way to ask for the impossible."""

import json
from io import BytesIO
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image

from db.errors import NotEmbedded, NoTower, UnknownKey
from tasks.query import look_up
from tests.makers import embed, glyph, item, picked, register, send, vector
from training.errors import PictureError
from twinvec_client.contract.limits import MAX_K, MAX_QUERIES
from twinvec_client.contract.messages import BadMessage, Nearest
from worker.runtime import Runtime

SEEDS = range(40)


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower with forty digits, every other one of the collection `even`."""
    tower = register(runtime.transact)
    for collection, start in (("even", 0), ("odd", 1)):
        batch = send(runtime.transact, *(item(f"key {seed}", seed) for seed in SEEDS[start::2]), collection=collection)
        embed(runtime.transact, batch)
    return tower


def ask(runtime: Runtime, *queries: Any, k: Any = 5, collection: Any = None) -> list[dict[str, Any]]:
    """As a message that came over the wire."""
    payload = {"queries": list(queries), "k": k, "collection": collection, "normalise": False}
    answers: list[dict[str, Any]] = look_up(Nearest.read(msgpack.unpackb(msgpack.packb(payload))), runtime)["answers"]
    return answers


def keys(answer: dict[str, Any]) -> list[str]:
    return [neighbour["key"] for neighbour in answer["neighbours"]]


def brute_force(query: np.ndarray[Any, Any], tower: int, seeds: range = SEEDS) -> list[tuple[str, float]]:
    """(key, distance), nearest first."""
    stored = np.stack([vector(tower, seed) for seed in seeds]).astype(np.float64)
    distances = np.linalg.norm(stored - query, axis=1)
    return [(f"key {seeds[at]}", distances[at]) for at in np.argsort(distances)]


@pytest.mark.parametrize("form", ["glyph", "encoded", "vector"])
def test_answers_are_those_of_a_brute_force_search(runtime: Runtime, tower: int, form: str) -> None:
    for seed in (100, 101, 102):
        pixels = np.frombuffer(glyph(seed), np.uint8)
        file = BytesIO()
        Image.fromarray(pixels.reshape(28, 28)).save(file, "PNG")
        query = {"glyph": glyph(seed), "encoded": file.getvalue(), "vector": picked(tower, pixels)[0].tolist()}[form]
        (answer,) = ask(runtime, {form: query}, k=7)
        expected = brute_force(picked(tower, pixels)[0], tower)[:7]
        assert keys(answer) == [key for key, _ in expected]
        distances = [neighbour["distance"] for neighbour in answer["neighbours"]]
        assert distances == pytest.approx([distance for _, distance in expected], rel=1e-4)
        assert answer["exact"] is True


def test_a_digit_is_left_out_of_its_own_neighbours(runtime: Runtime, tower: int) -> None:
    (answer,) = ask(runtime, {"key": "key 4", "collection": None}, k=1000)
    expected = [key for key, _ in brute_force(vector(tower, 4), tower)]
    assert expected[0] == "key 4"
    assert keys(answer) == expected[1:]


def test_a_collection_limits_what_is_searched(runtime: Runtime, tower: int) -> None:
    (answer,) = ask(runtime, {"glyph": glyph(100)}, k=1000, collection="odd")
    assert keys(answer) == [key for key, _ in brute_force(vector(tower, 100), tower, SEEDS[1::2])]
    (nothing,) = ask(runtime, {"glyph": glyph(100)}, collection="none such")
    assert keys(nothing) == []


def test_many_queries_are_answered_in_their_order(runtime: Runtime, tower: int) -> None:
    answers = ask(
        runtime,
        {"glyph": glyph(3)},
        {"key": "key 4", "collection": "even"},
        {"vector": vector(tower, 5).tolist()},
        {"glyph": glyph(6)},
    )
    assert [keys(answer)[0] for answer in (answers[0], answers[2], answers[3])] == ["key 3", "key 5", "key 6"]
    assert "key 4" not in keys(answers[1])


def test_the_answer_is_of_the_tower_that_is_live(runtime: Runtime, tower: int) -> None:
    register(runtime.transact, "candidate")
    (answer,) = ask(runtime, {"glyph": glyph(3)}, k=1)
    assert answer["neighbours"][0]["distance"] == pytest.approx(0)


def test_attributes_travel_as_text(runtime: Runtime) -> None:
    tower = register(runtime.transact)
    odd = {"count": 10**30, "mass": 1e25}
    embed(runtime.transact, send(runtime.transact, item("a", 1, label=7, attributes=odd), item("b", 2)))
    (answer,) = ask(runtime, {"vector": vector(tower, 1).tolist()})
    first, second = answer["neighbours"]
    assert (json.loads(first["attributes"])["count"], first["label"]) == (10**30, 7)
    assert (second["attributes"], second["label"]) == (None, None)


def test_no_query_has_no_answer(runtime: Runtime, tower: int) -> None:
    assert ask(runtime) == []


NUMBERS = [0.0] * 128


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"key": "no such", "collection": None}, UnknownKey),
        ({"key": "key 1", "collection": "even"}, UnknownKey),
        ({"key": "nul\0", "collection": None}, UnknownKey),
        ({"vector": NUMBERS[1:]}, BadMessage),
        ({"vector": [*NUMBERS[1:], float("nan")]}, BadMessage),
        ({"vector": [*NUMBERS[1:], float("inf")]}, BadMessage),
        ({"vector": [*NUMBERS[1:], "one"]}, BadMessage),
        ({"vector": [*NUMBERS[1:], 1e300]}, BadMessage),
        ({"vector": None}, BadMessage),
        ({"vector": NUMBERS, "glyph": bytes(784)}, BadMessage),
        ({"glyph": bytes(784), "newer": 1}, BadMessage),
        ({"vector": {"a": 1}}, BadMessage),
        ({"glyph": b"short"}, BadMessage),
        ({"glyph": None}, BadMessage),
        ({"encoded": "text"}, BadMessage),
        ({"encoded": b"text"}, PictureError),
        ({}, BadMessage),
        (7, BadMessage),
    ],
    ids=str,
)
def test_what_cannot_be_looked_up_is_refused(runtime: Runtime, tower: int, query: Any, error: type) -> None:
    with pytest.raises(error):
        ask(runtime, {"glyph": glyph(1)}, query)


@pytest.mark.parametrize("k", [0, -1, MAX_K + 1, None, "5", 2.5])
def test_k_has_its_limits(runtime: Runtime, tower: int, k: Any) -> None:
    with pytest.raises(BadMessage):
        ask(runtime, {"glyph": glyph(1)}, k=k)


def test_too_many_queries_are_refused(runtime: Runtime, tower: int) -> None:
    with pytest.raises(BadMessage):
        ask(runtime, *[{"glyph": glyph(1)}] * (MAX_QUERIES + 1))


def test_a_key_of_several_collections_needs_one_named(runtime: Runtime, tower: int) -> None:
    embed(runtime.transact, send(runtime.transact, item("key 1", 1), collection="even"))
    with pytest.raises(UnknownKey, match="several collections"):
        ask(runtime, {"key": "key 1", "collection": None})
    (answer,) = ask(runtime, {"key": "key 1", "collection": "even"}, k=1)
    assert answer["neighbours"][0]["collection"] == "odd"


def test_a_digit_that_is_due_its_vector_is_not_embedded(runtime: Runtime, tower: int) -> None:
    send(runtime.transact, item("due", 1))
    with pytest.raises(NotEmbedded):
        ask(runtime, {"key": "due", "collection": None})


def test_without_a_tower_there_is_no_answer(runtime: Runtime) -> None:
    for query in ({"glyph": glyph(1)}, {"key": "a", "collection": None}, {"vector": NUMBERS}):
        with pytest.raises(NoTower):
            ask(runtime, query)
