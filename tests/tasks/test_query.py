"""The nearest stored digits of pictures, keys and vectors, and every way to ask for the impossible."""

import json
import os
import subprocess
import sys
from io import BytesIO
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from db.errors import NotEmbedded, NoTower, TowerNotLive, UnknownKey
from db.tables import Batch
from db.vectors import lifecycle, towers
from tasks.answering import InvalidRequest
from tasks.query import look_up
from tests.makers import embed, glyph, item, pass_judging, picked, promote, register, send, trained, vector
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


def ask(runtime: Runtime, *queries: Any, **given: Any) -> list[dict[str, Any]]:
    """As a message that came over the wire."""
    for query in queries:
        if isinstance(query, dict) and "vector" in query:
            query.setdefault("tower", runtime.transact(towers.live).fingerprint)
    plain = {"k": 5, "match": False, "pictures": False, "normalise": False}
    filters = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
    payload = {"queries": list(queries), **plain, **filters, **given}
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


def test_filters_limit_what_is_searched(runtime: Runtime) -> None:
    tower = register(runtime.transact)
    for collection in ("a", "b", "c"):
        items = [
            item(f"{collection}{seed}", seed, label=seed % 3, attributes={"page": seed % 2, "of": {"form": collection}})
            for seed in range(12)
        ]
        embed(runtime.transact, send(runtime.transact, *items, collection=collection))
    query = {"vector": vector(tower, 100).tolist()}

    def found(**given: Any) -> set[str]:
        (answer,) = ask(runtime, query, k=1000, **given)
        return set(keys(answer))

    assert found(label=1) == {f"{name}{seed}" for name in "abc" for seed in (1, 4, 7, 10)}
    assert found(collection=["a", "c"], label=0) == {f"{name}{seed}" for name in "ac" for seed in (0, 3, 6, 9)}
    assert found(attributes='{"page": 1}') == {f"{name}{seed}" for name in "abc" for seed in range(1, 12, 2)}
    assert found(attributes='{"of": {"form": "b"}}', collection="b", label=2) == {"b2", "b5", "b8", "b11"}
    assert found(attributes='{"of": {"form": "b"}}', collection="a") == set()
    everything = brute_force(vector(tower, 100), tower, range(12))
    middle = (everything[4][1] + everything[5][1]) / 2
    assert found(collection="a", max_distance=middle) == {key.replace("key ", "a") for key, _ in everything[:5]}
    assert found(max_distance=0) == set()


def test_an_answer_goes_on_where_it_ended(runtime: Runtime, tower: int) -> None:
    query = {"vector": vector(tower, 100).tolist()}
    pages, after = list[list[str]](), None
    while not pages or after is not None:
        (answer,) = ask(runtime, query | {"after": after}, k=15)
        pages.append(keys(answer))
        after = answer["next"]
    assert [len(page) for page in pages] == [15, 15, 10]
    assert [key for page in pages for key in page] == [key for key, _ in brute_force(vector(tower, 100), tower)]


def test_a_vector_and_a_place_belong_to_their_tower(runtime: Runtime, tower: int) -> None:
    (answer,) = ask(runtime, {"vector": vector(tower, 1).tolist()}, k=1)
    live = answer["tower"]
    named = {"vector": vector(tower, 1).tolist(), "tower": live}
    assert ask(runtime, named, k=1)[0]["neighbours"] == answer["neighbours"]
    gone = answer["next"].replace(live, "0" * 64)
    for other in (
        named | {"tower": "0" * 64},
        named | {"tower": "0" * 64, "after": gone},
        {"key": "key 1", "after": gone},
    ):
        with pytest.raises(TowerNotLive, match="000000000000"):
            ask(runtime, other)
    with pytest.raises(InvalidRequest, match="this vector"):
        ask(runtime, named | {"after": gone})
    for place in ("", "last", f"{live}:nan:1", f"{live}:0x1.0p+1", answer["next"] + "0" * 20):
        with pytest.raises(InvalidRequest, match="after"):
            ask(runtime, named | {"after": place})


@pytest.fixture
def previous(runtime: Runtime, tower: int) -> int:
    """The tower, with another one live in its place."""
    register(runtime.transact, "newer")
    for batch in runtime.transact(lambda session: session.execute(select(Batch.id).where(Batch.state == "queued"))):
        embed(runtime.transact, batch.id)
    assert promote(runtime.transact)
    return tower


def test_a_vector_of_the_previous_tower_is_looked_up_in_its_own_space(runtime: Runtime, previous: int) -> None:
    before = runtime.transact(towers.fingerprint_of, previous)
    own = {"vector": vector(previous, 100).tolist(), "tower": before}
    answers = ask(runtime, own, {"glyph": glyph(100)}, own, k=3)
    live = runtime.transact(towers.live)
    assert [answer["tower"] for answer in answers] == [before, live.fingerprint, before]
    for answer, tower in zip(answers, (previous, live.id, previous), strict=True):
        assert keys(answer) == [key for key, _ in brute_force(vector(tower, 100), tower)[:3]]


def test_an_answer_is_continued_under_its_tower_when_another_went_live(runtime: Runtime, previous: int) -> None:
    before = runtime.transact(towers.fingerprint_of, previous)
    (first,) = ask(runtime, {"vector": vector(previous, 100).tolist(), "tower": before}, k=3)
    (second,) = ask(runtime, {"glyph": glyph(100), "after": first["next"]}, k=3)
    assert second["tower"] == before
    assert [*keys(first), *keys(second)] == [key for key, _ in brute_force(vector(previous, 100), previous)[:6]]


def test_a_vector_of_a_tower_that_left_is_refused_by_both_names(runtime: Runtime, previous: int) -> None:
    before, live = runtime.transact(towers.fingerprint_of, previous), runtime.transact(towers.live).fingerprint
    runtime.transact(lifecycle.retire, previous, by="me")
    with pytest.raises(TowerNotLive, match=rf"{before[:12]}, which is retired, and tower {live[:12]}"):
        ask(runtime, {"vector": [0.0] * 128, "tower": before})


def test_a_candidate_answers_when_nothing_is_missing_under_it(runtime: Runtime, tower: int) -> None:
    newer = register(runtime.transact, "newer")
    named = {"vector": vector(newer, 100).tolist(), "tower": runtime.transact(towers.fingerprint_of, newer)}
    with pytest.raises(TowerNotLive, match="still being filled"):
        ask(runtime, named)
    for batch in runtime.transact(lambda session: session.execute(select(Batch.id).where(Batch.state == "queued"))):
        embed(runtime.transact, batch.id)
    pass_judging(runtime.transact)
    (answer,) = ask(runtime, named, k=3)
    assert keys(answer) == [key for key, _ in brute_force(vector(newer, 100), newer)[:3]]


def test_neighbours_come_with_their_pixels_where_asked(runtime: Runtime, tower: int) -> None:
    for pictures in (True, False):
        (answer,) = ask(runtime, {"key": "key 4"}, k=3, pictures=pictures)
        for neighbour in answer["neighbours"]:
            expected = glyph(int(neighbour["key"].removeprefix("key "))) if pictures else None
            assert neighbour["picture"] == expected


def test_an_answer_says_what_it_took(runtime: Runtime, tower: int) -> None:
    answers = ask(runtime, {"glyph": glyph(1)}, {"key": "key 4"}, k=3)
    assert [answer["compared"] for answer in answers] == [40, 40]
    assert all(0 < answer["seconds"] < 60 for answer in answers)


def test_many_keys_are_looked_up_in_the_collections_they_name(runtime: Runtime, tower: int) -> None:
    embed(runtime.transact, send(runtime.transact, item("key 1", 300), collection="even"))
    both = {"key": "key 1", "collection": ["even", "none such"]}
    answers = ask(runtime, both, {"key": "key 1", "collection": "odd"}, {"key": "key 2"}, both, k=1)
    nearest = [brute_force(vector(tower, seed), tower)[at][0] for seed, at in ((300, 0), (2, 1), (300, 0))]
    assert [keys(answers[at])[0] for at in (0, 2, 3)] == nearest
    assert answers[0]["neighbours"] == answers[3]["neighbours"] != answers[1]["neighbours"]
    with pytest.raises(UnknownKey, match="several collections"):
        ask(runtime, {"key": "key 1", "collection": ["even", "odd"]})


def test_keys_and_vectors_are_answered_without_tensorflow(runtime: Runtime, tower: int) -> None:
    """In a process of its own, whose towers would load Keras."""
    script = """
import sys
from tasks.query import look_up
from twinvec_client.contract.messages import Nearest
from worker.runtime import runtime
filters = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
queries = [{"key": "key 4"}, {"vector": [0.0] * 128, "tower": sys.argv[1]}]
plain = {"k": 1, "match": False, "pictures": False, "normalise": False}
answers = look_up(Nearest.read({"queries": queries, **plain, **filters}), runtime())["answers"]
assert all(len(answer["neighbours"]) == 1 for answer in answers)
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    url = runtime.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", script, trained("first").fingerprint]
    ran = subprocess.run(command, env={**os.environ, "TWINVEC_DATABASE_URL": url}, check=False)
    assert ran.returncode == 0


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
