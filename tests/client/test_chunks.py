"""A stream is cut by itself alone, in order, within bounds; a bad item costs only itself."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinvec_client import Digit, InvalidRequest
from twinvec_client.chunks import JobOptions, Paired, chunks
from twinvec_client.contract.limits import (
    MAX_ATTRIBUTES_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_ITEMS,
    MAX_KEY_CHARS,
    MAX_LABEL,
    MAX_PICTURE_BYTES,
)
from twinvec_client.contract.messages import ENCODED, GLYPH, REFUSED, Intake
from twinvec_client.contract.packing import PACKED_BYTES, unpack

JOB = "00000000-0000-4000-8000-000000000007"
ZEROS = np.zeros((28, 28), np.uint8)


def cut(pictures: Any, **given: Any) -> list[Intake]:
    return list(chunks(pictures, JobOptions(job=JOB, **given)))


def refusals(found: list[Intake]) -> dict[str, str]:
    """Key to reason."""
    return {
        key: reason
        for chunk in found
        for key, (reason, _) in zip(
            [key for key, kind in zip(chunk.keys, chunk.item_types, strict=True) if kind == REFUSED],
            chunk.refused,
            strict=True,
        )
    }


def sizes(found: list[Intake]) -> list[int]:
    return [len(chunk.keys) for chunk in found]


@pytest.mark.parametrize(
    "count", [0, 1, MAX_CHUNK_ITEMS - 1, MAX_CHUNK_ITEMS, MAX_CHUNK_ITEMS + 1, 2 * MAX_CHUNK_ITEMS, 5000]
)
def test_a_stream_of_any_length_is_cut_in_order_and_its_last_chunk_alone_carries_the_total(count: int) -> None:
    found = cut((f"key {at}", ZEROS) for at in range(count))
    assert [key for chunk in found for key in chunk.keys] == [f"key {at}" for at in range(count)]
    assert [chunk.seq for chunk in found] == list(range(len(found)))
    assert [chunk.total for chunk in found] == [None] * (len(found) - 1) + [count]
    assert max(sizes(found)) <= MAX_CHUNK_ITEMS
    assert count == 0 or min(sizes(found)) > 0


@settings(max_examples=60, deadline=None)
@given(
    pictures=st.lists(
        st.one_of(
            st.integers(0, MAX_PICTURE_BYTES // 8).map(bytes),
            st.sampled_from([ZEROS, np.zeros((3, 3), np.uint8), None, 7, object()]),
        ),
        max_size=12,
    )
)
def test_chunks_stay_within_their_bounds_and_hold_what_their_item_types_say(pictures: list[Any]) -> None:
    found = cut([(f"key {at}", picture) for at, picture in enumerate(pictures)])
    assert sum(sizes(found)) == found[-1].total == len(pictures)
    for chunk in found:
        glyphs = chunk.item_types.count(GLYPH)
        assert unpack(chunk.glyphs, glyphs) == bytes(784 * glyphs)
        weight = PACKED_BYTES * glyphs + sum(map(len, chunk.encoded))
        assert weight <= MAX_CHUNK_BYTES or len(chunk.encoded) == 1
        assert [chunk.item_types.count(kind) for kind in (ENCODED, REFUSED)] == [len(chunk.encoded), len(chunk.refused)]
        msgpack.packb(chunk.write())


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.text(st.characters(categories=["Cs", "Lu"]), max_size=3),
        st.binary(max_size=5),
        st.just("nul\0"),
        st.sampled_from([ZEROS, Path("no such file"), np.float64(3), np.int64(7), "x" * 600, 2**31, object()]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=4,
)


@settings(max_examples=120, deadline=None)
@given(key=ANYTHING, picture=ANYTHING, label=ANYTHING, attributes=ANYTHING)
def test_any_item_is_sent_or_refused_and_costs_only_itself(key: Any, picture: Any, label: Any, attributes: Any) -> None:
    good = ("good", ZEROS)
    (chunk,) = cut([good, (key, Digit(picture, label, attributes)), ("last", ZEROS)])
    assert (chunk.keys[0], chunk.keys[2], chunk.total) == ("good", "last", 3)
    assert chunk.item_types[0] == chunk.item_types[2] == GLYPH
    sent = Intake.read(msgpack.unpackb(msgpack.packb(chunk.write())))
    if sent.labels is not None and sent.labels[1] is not None:
        assert 0 <= sent.labels[1] < MAX_LABEL
    if sent.attributes is not None and sent.attributes[1] is not None:
        assert isinstance(json.loads(sent.attributes[1]), dict)


@pytest.mark.parametrize(
    "key", ["", "x" * (MAX_KEY_CHARS + 1), "nul\0", "\ud800", 7, None, []], ids=lambda key: f"{key!r:.10}"
)
def test_what_cannot_be_a_key_is_listed_under_its_place(key: Any) -> None:
    assert refusals(cut([("good", ZEROS), (key, ZEROS)])) == {"#1": "bad_key"}


@pytest.mark.parametrize("label", [-1, MAX_LABEL, 1.0, "7", True, [7]])
def test_what_is_no_label_is_refused(label: Any) -> None:
    assert refusals(cut({"a": Digit(ZEROS, label=label), "b": ZEROS})) == {"a": "bad_label"}


@pytest.mark.parametrize(
    "attributes",
    [7, [], {"a": object()}, {"a": float("nan")}, {"a": "nul\0"}, {"a": "\ud800"}, {"a": "x" * MAX_ATTRIBUTES_BYTES}],
    ids=lambda value: f"{value!r:.20}",
)
def test_what_are_no_attributes_are_refused(attributes: Any) -> None:
    assert refusals(cut({"a": Digit(ZEROS, attributes=attributes), "b": ZEROS})) == {"a": "bad_attributes"}


def test_labels_and_attributes_come_by_key_from_a_mapping_or_a_function_and_the_digits_own_come_first() -> None:
    pictures = {"a": ZEROS, "b": Digit(ZEROS, label=9), "c": ZEROS}
    for labels in ({"a": 1, "b": 2}, {"a": np.int64(1), "b": 2}.get):
        (chunk,) = cut(pictures, labels=labels, attributes={"c": {"page": 3}})
        assert chunk.labels == [1, 9, None]
        assert chunk.attributes == [None, None, '{"page": 3}']


def test_a_stream_without_labels_sends_none() -> None:
    (chunk,) = cut({"a": ZEROS})
    assert (chunk.labels, chunk.attributes) == (None, None)


def test_the_same_stream_gives_the_same_chunks() -> None:
    def stream() -> Iterator[tuple[str, Any]]:
        rng = np.random.default_rng(1)
        return ((f"key {at}", rng.bytes(int(rng.integers(5000)))) for at in range(3000))

    assert cut(stream()) == cut(stream())
    assert cut(stream()) == cut(dict(stream()))


def test_another_stream_has_another_digest() -> None:
    other = np.ones((28, 28), np.uint8)
    digests = {
        cut(pictures, **given)[0].digest
        for pictures, given in (
            ({"a": ZEROS}, {}),
            ({"b": ZEROS}, {}),
            ({"a": other}, {}),
            ({"a": ZEROS.tobytes()}, {}),
            ({"a": ZEROS, "b": ZEROS}, {}),
            ({"a": ZEROS}, {"labels": {"a": 1}}),
            ({"a": ZEROS}, {"attributes": {"a": {}}}),
            ({"a": ZEROS}, {"collection": "other"}),
            ({"a": ZEROS}, {"normalise": False}),
            ({"ab": b"c"}, {}),
            ({"a": b"bc"}, {}),
            ({}, {}),
        )
    }
    assert len(digests) == 12


def test_a_generator_is_read_in_constant_memory() -> None:
    def stream(count: int) -> Iterator[tuple[str, bytes]]:
        return ((f"key {at}", bytes(1000)) for at in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            for _ in chunks(stream(count), JobOptions(job=JOB)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(12 * MAX_CHUNK_ITEMS) < 1.2 * peak(3 * MAX_CHUNK_ITEMS)


def test_no_more_is_read_than_the_next_chunk_needs() -> None:
    read: list[int] = []

    def stream() -> Iterator[tuple[str, Any]]:
        for at in range(3 * MAX_CHUNK_ITEMS):
            read.append(at)
            yield f"key {at}", ZEROS

    next(chunks(stream(), JobOptions(job=JOB)))
    assert len(read) == MAX_CHUNK_ITEMS + 1


@pytest.mark.parametrize("pictures", ["folder", b"bytes", Path("folder"), 7, None], ids=repr)
def test_what_is_no_stream_is_refused(pictures: Any) -> None:
    with pytest.raises(InvalidRequest):
        cut(pictures)


@pytest.mark.parametrize("item", [7, ("a",), ("a", ZEROS, 3), ["a", ZEROS], None])
def test_what_is_no_pair_is_refused(item: Any) -> None:
    with pytest.raises(InvalidRequest):
        cut([item])


@pytest.mark.parametrize("labels", [7, [1], "labels"])
def test_labels_that_are_neither_mapping_nor_function_are_refused(labels: Any) -> None:
    with pytest.raises(InvalidRequest):
        cut({}, labels=labels)


def test_a_large_picture_goes_alone() -> None:
    large = bytes(MAX_CHUNK_BYTES + 1)
    found = cut([("a", b"x"), ("large", large), ("b", b"y")])
    assert [chunk.keys for chunk in found] == [["a"], ["large"], ["b"]]


def test_a_whole_array_is_cut_by_its_keys() -> None:
    images = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    for labels in (np.array([7, 8, 9]), [7, 8, 9], (7, 8, 9)):
        given = Paired(images, ["a", "b", "c"], labels)
        (found,) = cut(given)
        assert (len(given), found.keys, found.labels) == (3, ["a", "b", "c"], [7, 8, 9])
        assert unpack(found.glyphs, 3) == images.tobytes()
    with_own = [Digit(images[0], 5, {"page": 1}), images[1]]
    (found,) = cut(Paired(with_own, np.array(["a", "b"]), None))
    assert (found.keys, found.labels, found.attributes) == (["a", "b"], [5, None], ['{"page": 1}', None])
    by_key = Paired(images, ["a", "b", "c"], {"b": 3})
    (found,) = cut(by_key, labels=by_key.by_key)
    assert found.labels == [None, 3, None]


@pytest.mark.parametrize(
    ("pictures", "keys", "labels"),
    [
        (np.zeros((3, 28, 28), np.uint8), ["a", "b"], None),
        (np.zeros((2, 28, 28), np.uint8), ["a", "b"], [1]),
        (np.zeros((2, 28, 28), np.uint8), "ab", None),
        (iter([ZEROS]), ["a"], None),
        ({"a": ZEROS}, ["a"], None),
    ],
)
def test_pictures_keys_and_labels_are_as_many(pictures: Any, keys: Any, labels: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"as many|an array or a list"):
        Paired(pictures, keys, labels)


def test_an_array_of_pictures_without_keys_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="give `keys`"):
        cut(np.zeros((2, 28, 28), np.uint8))
