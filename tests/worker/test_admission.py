"""What is admitted is what an honest sender sends, and Celery sees nothing else of it."""

import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.abuse.envelopes import body, envelope, spoil
from twinvec_client.contract.broker import LANES
from twinvec_client.contract.messages import MESSAGES
from worker.admission import NotAdmitted, admit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)


def admitted() -> dict[str, Any]:
    return admit(envelope("twinvec.jobs", "control", {"limit": 3}), "control")


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.task)
def test_every_message_of_ours_is_admitted_on_its_lane_and_no_other(message: Any) -> None:
    assert admit(envelope(message.task, message.lane), message.lane)["headers"]["task"] == message.task
    if message.task != "twinvec.probe":
        for lane in set(LANES) - {message.lane}:
            with pytest.raises(NotAdmitted, match="not one of the lane"):
                admit(envelope(message.task, lane), lane)


@given(message=JSON, lane=st.sampled_from(LANES))
def test_anything_at_all_is_refused_in_a_sentence(message: Any, lane: str) -> None:
    with pytest.raises(NotAdmitted, match=r"\w"):
        admit(message, lane)


@settings(max_examples=1000, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_whatever_is_spoilt_celery_sees_only_the_same_fields_of_the_same_types(seed: int) -> None:
    written = spoil(envelope("twinvec.jobs", "control", {"limit": 3}), random.Random(seed))
    whole = admitted()
    try:
        found = admit(json.loads(written), "control")
    except (NotAdmitted, ValueError):
        return
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in whole.items()}
    assert found["headers"].keys() - {"redelivered"} == whole["headers"].keys()
    for name in ("eta", "timelimit", "stamps", "retries", "group", "shadow", "stamped_headers"):
        assert found["headers"][name] == whole["headers"][name]
    assert found["properties"].keys() == whole["properties"].keys()


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        ("headers", "task", "celery.chord_unlock", "not one of the lane"),
        ("headers", "eta", "2099-01-01T00:00:00", "headers.eta"),
        ("headers", "compression", "bzip2", "headers.compression"),
        ("headers", "id", ["x"], "headers.id"),
        ("headers", "id", "a b\n", "headers.id"),
        ("headers", "expires", "some day", "headers"),
        ("properties", "delivery_info", {"exchange": "", "routing_key": "embed"}, "sent to another lane"),
        ("properties", "body_encoding", "utf-8", "body_encoding"),
        (None, "content-type", "application/x-python-serialize", "its content is of the type"),
        (None, "content-type", "application/json", "was not sent to the queue twinvec:control"),
        (None, "body", body([1]), "not keyword arguments"),
        (None, "body", body(keywords={1: 2}), "body"),
        (None, "body", body(options={"callbacks": [{"task": "twinvec.embed"}]}), "it asks for callbacks"),
        (None, "body", body(options={"chain": [1]}), "it asks for chain"),
        (None, "body", "", "its body is not"),
        (None, "body", "A" * 90_000_000, "bytes are taken"),
    ],
)  # fmt: skip
def test_what_no_client_sends_is_refused_with_its_reason(place: str | None, name: str, value: Any, reason: str) -> None:
    message = envelope("twinvec.jobs", "control")
    (message if place is None else message[place])[name] = value
    with pytest.raises(NotAdmitted, match=reason):
        admit(message, "control")


def test_limits_of_time_are_not_the_sender_s_to_set() -> None:
    message = envelope("twinvec.jobs", "control")
    message["headers"] |= {"timelimit": [1e-6, 1e-6], "retries": 10**9, "shadow": "\x1b[2J", "origin": "x" * 10**6}
    message["headers"]["expires"] = "2099-01-01T00:00:00+00:00"
    headers = admit(message, "control")["headers"]
    assert (headers["timelimit"], headers["retries"], headers["shadow"], headers["origin"]) == ([None] * 2, 0, None, "")
    assert headers["expires"] == "2099-01-01T00:00:00+00:00"


def test_what_is_large_is_unpacked_only_if_its_fields_have_their_types() -> None:
    """Empty maps take 73 times as much memory as bytes on the wire."""
    swarm: list[dict[str, Any]] = [{}] * (3 * 2**20)
    wrong = envelope("twinvec.nearest", "query", {"queries": swarm})
    tracemalloc.start()
    with pytest.raises(NotAdmitted, match="queries"):
        admit(wrong, "query")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50e6
    query = {"encoded": bytes(3 * 2**20)}
    fields = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
    plain = {"k": 1, "match": False, "pictures": False, "normalise": False}
    assert admit(envelope("twinvec.nearest", "query", {"queries": [query], **plain, **fields}), "query")
