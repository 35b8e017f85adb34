"""A chunk is stored as it was sent, a bad picture costs only itself, and no field is believed."""

import json
import re
import uuid
from io import BytesIO
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from redis import Redis
from sqlalchemy import select, text

from db.tables import Digit, Failure
from tasks.intake import read, take_in
from tests.abuse.pictures import tiff_of_one_tile
from tests.makers import counts, failures, glyph, register, status, stored
from twinvec_client.contract.limits import MAX_CHUNK_ITEMS, MAX_COLLECTION_CHARS, MAX_KEY_CHARS
from twinvec_client.contract.messages import ENCODED, GLYPH, REFUSED, BadMessage, Intake
from twinvec_client.contract.packing import pack
from worker.runtime import Runtime

JOB = str(uuid.UUID(int=7))


def png(seed: int) -> bytes:
    """A 28x28 PNG of glyph(seed)."""
    file = BytesIO()
    Image.fromarray(np.frombuffer(glyph(seed), np.uint8).reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


def payload(**changes: Any) -> dict[str, Any]:
    """A glyph, an encoded picture and a refused one, with `changes`, as a worker gets them."""
    fields: dict[str, Any] = {
        "job": JOB,
        "seq": 0,
        "collection": "default",
        "keys": ["glyph", "encoded", "refused"],
        "item_types": bytes([GLYPH, ENCODED, REFUSED]),
        "glyphs": pack(glyph(1)),
        "encoded": [png(2)],
        "refused": [("unreadable", "no such file")],
        "labels": [3, None, None],
        "attributes": ['{"page": 1}', None, None],
        "normalise": False,
        "callback": None,
        "resent": False,
        "digest": b"digest",
        "first": b"digest",
        "priority": 1,
        "total": 3,
    }
    return fields | changes


def chunk(**changes: Any) -> Intake:
    return Intake.read(payload(**changes))


def test_a_chunk_is_stored_as_it_was_sent_and_published(runtime: Runtime, broker: Redis) -> None:
    take_in(chunk(), runtime)
    assert stored(runtime.transact) == {"glyph": glyph(1), "encoded": glyph(2)}
    assert failures(runtime.transact, uuid.UUID(JOB)) == {"refused": "unreadable"}
    label, attributes = runtime.transact(
        lambda session: session.execute(select(Digit.label, Digit.attributes).where(Digit.key == "glyph")).one()
    )
    assert (label, attributes) == (3, {"page": 1})
    assert broker.llen("twinvec:embed") == 1


def test_a_chunk_delivered_twice_is_stored_and_published_once(runtime: Runtime, broker: Redis) -> None:
    for _ in range(2):
        take_in(chunk(), runtime)
    assert counts(runtime.transact, uuid.UUID(JOB)) == {"accepted": 3, "failed": 1}
    assert broker.llen("twinvec:embed") == 1


def test_of_refused_pictures_a_job_keeps_as_many_bytes_as_the_setting_says(runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"job_failure_bytes": 10})
    refused = {"keys": ["a", "b"], "item_types": bytes([ENCODED] * 2), "encoded": [b"8 bytes.", b"3 b"]}
    take_in(chunk(**refused, glyphs=pack(b""), refused=[], labels=None, attributes=None, total=2), runtime)
    kept = select(Failure.key, Failure.reason, Failure.picture).order_by(Failure.key)
    assert runtime.transact(lambda session: [tuple(row) for row in session.execute(kept)]) == [
        ("a", "not_a_picture", b"8 bytes."),
        ("b", "not_a_picture", None),
    ]


def test_a_callback_into_the_installation_s_own_keys_is_refused(runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"prefix": "staging"})
    with pytest.raises(BadMessage, match="staging:"):
        take_in(chunk(callback={"task": "a", "queue": "staging:embed"}), runtime)
    assert stored(runtime.transact) == {}


def test_more_pictures_than_a_job_may_have_are_refused_however_they_come(runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"job_pictures": 8})
    for seq in (0, 1):
        take_in(chunk(seq=seq, total=None), runtime)
    with pytest.raises(BadMessage, match="at most 8"):
        take_in(chunk(seq=2, total=None), runtime)
    with pytest.raises(BadMessage, match="at most 8"):
        take_in(chunk(seq=2, total=9), runtime)
    take_in(chunk(seq=1, total=None), runtime)
    assert counts(runtime.transact, uuid.UUID(JOB))["accepted"] == 6


def test_a_chunk_is_accepted_without_a_broker(runtime: Runtime, broker: Redis) -> None:
    """A full Redis takes no message."""
    broker.config_set("maxmemory", 1)
    try:
        take_in(chunk(), runtime)
    finally:
        broker.config_set("maxmemory", 0)
    assert len(stored(runtime.transact)) == 2


def test_a_bad_picture_costs_only_itself_and_is_kept_to_look_at(runtime: Runtime) -> None:
    bad = {"empty": b"", "text": b"hello", "truncated": png(3)[:60]}
    take_in(
        chunk(
            keys=["good", *bad, "last"],
            item_types=bytes([ENCODED] * 5),
            glyphs=pack(b""),
            encoded=[png(1), *bad.values(), png(2)],
            refused=[],
            labels=None,
            attributes=None,
            total=5,
        ),
        runtime,
    )
    assert stored(runtime.transact) == {"good": glyph(1), "last": glyph(2)}
    assert failures(runtime.transact, uuid.UUID(JOB)) == {
        "empty": "empty",
        "text": "not_a_picture",
        "truncated": "damaged",
    }
    kept = runtime.transact(lambda session: session.execute(select(Failure.key, Failure.picture)).all())
    assert dict(kept) == bad


def test_pictures_keep_their_keys_whatever_their_types(runtime: Runtime) -> None:
    item_types = [GLYPH, REFUSED, ENCODED, GLYPH, ENCODED, ENCODED, REFUSED, GLYPH]
    take_in(
        chunk(
            keys=[f"key {at}" for at in range(8)],
            item_types=bytes(item_types),
            glyphs=pack(b"".join(glyph(at) for at in range(8) if item_types[at] == GLYPH)),
            encoded=[png(at) for at in range(8) if item_types[at] == ENCODED],
            refused=[("bad_picture", f"{at}") for at in range(8) if item_types[at] == REFUSED],
            labels=None,
            attributes=None,
            total=8,
        ),
        runtime,
    )
    assert stored(runtime.transact) == {f"key {at}": glyph(at) for at in range(8) if item_types[at] != REFUSED}
    messages = runtime.transact(lambda session: session.execute(select(Failure.key, Failure.message)).all())
    assert dict(messages) == {"key 1": "1", "key 6": "6"}


def test_the_longest_key_and_collection_fit(runtime: Runtime) -> None:
    rng = np.random.default_rng(0)

    def characters(count: int) -> str:
        return "".join(map(chr, rng.integers(0x10000, 0x10FFFF, count)))

    keys = [characters(MAX_KEY_CHARS) for _ in range(3)]
    take_in(chunk(keys=keys, collection=characters(MAX_COLLECTION_CHARS)), runtime)
    assert counts(runtime.transact, uuid.UUID(JOB)) == {"accepted": 3, "failed": 1}


JUNK: list[Any] = [
    None, True, -1, 2**31, 2**63, 2**70, 1.5, float("nan"), "", "text", "nul\0", "x" * 3000, b"", b"bytes", b"x" * 100,
    [], [None], [[]], [None] * 3, ["a"] * 3, [b"a"] * 3, [-1] * 3, [2**31] * 3, ["{}", "[]", "null"], ["{"] * 3,
    ['{"a": NaN}'] * 3, ['{"a": 1e999}'] * 3, ['{"a": "\\u0000"}'] * 3, ['{"a": "\\ud800"}'] * 3,
    ["[" * 4000] * 3, ['{"a": ' + "[" * 2000 + "]" * 2000 + "}"] * 3, [["a"]], [["a", "b", "c"]], [["a", 1]],
    [[1, "a"]], [["a\0", "b"]], [["a", "b\0"]], {}, {"a": 1}, ["a", "b", "c\0"], ["a", "b", ""], ["a", "b", "c" * 513],
    ["a", "b", 3], {"task": "a", "queue": "b"}, {"task": "twinvec.train", "queue": "b"}, {"task": "a\0", "queue": "b"},
    {"task": "a", "queue": "b", "c": "d"}, [["no such reason", "a"]], "00000000-0000-0000-0000-00000000000g",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(sorted(payload())), st.sampled_from(JUNK), min_size=1, max_size=2))
def test_junk_in_any_field_is_refused_or_stored_and_never_an_error(runtime: Runtime, changes: dict[str, Any]) -> None:
    junk = payload(**{"job": str(uuid.uuid4())} | changes)
    before = runtime.transact(lambda session: session.execute(text("SELECT count(*) FROM batches")).scalar_one())
    try:
        take_in(Intake.read(junk), runtime)
    except BadMessage:
        after = runtime.transact(lambda session: session.execute(text("SELECT count(*) FROM batches")).scalar_one())
        assert after == before, "a refused chunk has stored something"


@pytest.mark.parametrize(
    "changes",
    [
        {"encoded": []},
        {"refused": []},
        {"item_types": bytes([GLYPH, ENCODED, 3])},
        {"item_types": bytes([GLYPH, ENCODED])},
        {"labels": [1]},
        {"attributes": [None]},
        {"keys": ["a"] * (MAX_CHUNK_ITEMS + 1)},
        {"collection": "c" * (MAX_COLLECTION_CHARS + 1)},
        {"total": 2},
        {"keys": ["glyph", "encoded", "nul\0"]},
    ],
    ids=", ".join,
)
def test_fields_that_do_not_agree_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadMessage, match=re.escape(Intake.task)):
        chunk(**changes)


@pytest.mark.parametrize(
    "glyphs",
    [b"", glyph(1), pack(b""), pack(glyph(1) + b"x"), pack(glyph(1)[1:]), pack(glyph(1))[:-9], pack(bytes(10**8))],
    ids=["nothing", "not packed", "none", "too long", "too short", "cut off", "a bomb"],
)
def test_glyphs_that_do_not_unpack_to_what_the_item_types_say_are_refused(runtime: Runtime, glyphs: bytes) -> None:
    with pytest.raises(BadMessage, match="glyphs"):
        take_in(chunk(glyphs=glyphs), runtime)
    assert stored(runtime.transact) == {}


def test_what_msgpack_makes_of_a_chunk_is_taken(runtime: Runtime) -> None:
    take_in(Intake.read(msgpack.unpackb(msgpack.packb(chunk().write()))), runtime)
    assert len(stored(runtime.transact)) == 2


def test_odd_attributes_are_stored_as_they_are(runtime: Runtime) -> None:
    odd = {
        "mass": 1e25,
        "count": 10**30,
        "path": "C:\\u0000",
        "name": "née 🎉",
        "deep": [[[{"a": None}]]],
        "tiny": 5e-324,
    }
    take_in(chunk(attributes=[json.dumps(odd), None, None]), runtime)
    found = runtime.transact(lambda session: session.execute(select(Digit.attributes).where(Digit.key == "glyph")))
    kept = found.scalar_one()
    assert float(kept.pop("mass")) == odd.pop("mass")  # SQL gives it back without an exponent
    assert kept == odd


def test_a_job_waits_for_a_tower_and_says_so(runtime: Runtime) -> None:
    take_in(chunk(), runtime)
    assert status(runtime.transact, uuid.UUID(JOB))["state"] == "waiting_for_tower"
    register(runtime.transact)
    assert status(runtime.transact, uuid.UUID(JOB))["state"] == "queued"


def test_a_picture_that_wants_too_much_memory_costs_only_itself(runtime: Runtime) -> None:
    register(runtime.transact)
    bomb = tiff_of_one_tile(32 * 1024)
    sent: dict[str, Any] = {
        "keys": ["before", "bomb", "after"],
        "item_types": bytes([ENCODED] * 3),
        "glyphs": pack(b""),
        "encoded": [png(1), bomb, png(2)],
        "refused": [],
        "labels": None,
        "attributes": None,
    }
    take_in(chunk(**sent), runtime)
    assert stored(runtime.transact) == {"before": glyph(1), "after": glyph(2)}
    (failure,) = runtime.transact(lambda session: session.execute(select(Failure.reason, Failure.picture)).all())
    assert failure == ("too_costly", bomb)


def test_arrays_are_normalised_or_refused_with_their_pixels_unless_normalise_is_off() -> None:
    dark, empty = (255 - np.frombuffer(glyph(1), np.uint8)).tobytes(), bytes(784)
    sent: dict[str, Any] = {
        "keys": ["set", "dark", "empty"],
        "item_types": bytes([GLYPH] * 3),
        "glyphs": pack(glyph(1) + dark + empty),
        "encoded": [],
        "refused": [],
        "labels": None,
        "attributes": None,
    }
    items, refused = read(chunk(**sent, normalise=True))
    assert items.keys == ["set", "dark"]
    assert items.pixels[0].tobytes() == glyph(1)
    assert items.pixels[1].tobytes() != dark
    assert items.made.tolist() == [False, True]
    assert [(each.key, each.reason, each.picture, each.is_glyph) for each in refused] == [
        ("empty", "blank", empty, True)
    ]
    items, refused = read(chunk(**sent, normalise=False))
    assert items.pixels.tobytes() == glyph(1) + dark + empty
    assert not refused
