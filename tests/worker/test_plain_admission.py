"""What is admitted in plain JSON becomes a message of ours, and what comes after it is what Celery's canvases say."""

import base64
import json
import random
import tracemalloc
from contextlib import suppress
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.abuse.envelopes import OPTIONS, envelope, plain_envelope, spoil
from twinvec_client.contract.messages import Intake, Nearest
from twinvec_client.contract.plain import KINDS, REQUESTS
from worker.admission import PLAIN, Converted, NotAdmitted, Sender, admit, keywords_of

LINK: dict[str, Any] = {
    "task": "shop.show",
    "args": [],
    "kwargs": {},
    "options": {"queue": "shop"},
    "subtask_type": None,
    "immutable": False,
}
PICTURE = {"key": "a", "picture": base64.b64encode(b"file").decode(), "label": 3, "attributes": {"page": 1}}


def converted(message: dict[str, Any], lane: str) -> Converted:
    return msgspec.convert(keywords_of(admit(message, lane)), Converted, builtin_types=(bytes,))


def asked(message: dict[str, Any], lane: str) -> Any:
    found = converted(message, lane)
    assert found.asked is not None, found.refusal
    return msgspec.msgpack.decode(found.asked, type=KINDS[found.task])


def sender(message: dict[str, Any], lane: str) -> Sender:
    return msgspec.json.decode(converted(message, lane).sender, type=Sender)


def canvas(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {**LINK, "task": f"celery.{kind}", "subtask_type": kind, "kwargs": kwargs, "options": {}}


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.task)
def test_every_request_is_admitted_on_its_lane_as_a_task_of_ours(request_: Any) -> None:
    admitted = admit(plain_envelope(request_.task, request_.lane), request_.lane)
    assert admitted["headers"]["task"] == PLAIN
    assert admitted["headers"]["ignore_result"]
    assert admitted["content-type"] == "application/x-msgpack"
    assert admitted["properties"]["delivery_info"]["routing_key"] == request_.lane
    assert admit(admitted, request_.lane) == admitted, "as it is when it is given back to its lane"


def test_pictures_become_the_one_chunk_of_a_job_that_their_own_id_names() -> None:
    fields = {"pictures": [PICTURE, {"key": "b", "picture": "?"}], "id": "mine", "collection": "plain"}
    chunk = asked(plain_envelope("twinvec.embed", "intake", fields), "intake")
    assert isinstance(chunk, Intake)
    assert (chunk.keys, chunk.item_types, chunk.encoded, chunk.total) == (["a", "b"], b"\1\2", [b"file"], 2)
    assert (chunk.labels, chunk.attributes) == ([3, None], ['{"page": 1}', None])
    again = asked(plain_envelope("twinvec.embed", "intake", fields), "intake")
    assert (again.job, again.digest) == (chunk.job, chunk.digest)
    other = asked(plain_envelope("twinvec.embed", "intake", {**fields, "pictures": [PICTURE]}), "intake")
    assert (other.job, other.digest == chunk.digest) == (chunk.job, False)
    unnamed = [plain_envelope("twinvec.embed", "intake", {"pictures": [PICTURE]}) for _ in range(2)]
    assert len({asked(each, "intake").job for each in unnamed}) == 2
    assert asked(unnamed[0], "intake").job == asked(unnamed[0], "intake").job


def test_a_look_up_has_defaults_and_its_queries_may_come_by_position() -> None:
    by_name = asked(plain_envelope("twinvec.nearest", "query", {"queries": [{"key": "a"}]}), "query")
    by_position = asked(plain_envelope("twinvec.nearest", "query", arguments=[[{"key": "a"}]]), "query")
    assert isinstance(by_name, Nearest)
    assert by_name == by_position
    assert (by_name.k, by_name.normalise, by_name.match, by_name.collection) == (5, True, False, None)
    picture = asked(plain_envelope("twinvec.nearest", "query", {"queries": [{"picture": "ZmlsZQ=="}]}), "query")
    assert picture.queries[0].encoded == b"file"


@pytest.mark.parametrize(
    ("task", "lane", "arguments", "keywords", "said"),
    [
        ("twinvec.nearest", "query", [], {}, "`queries` is missing"),
        ("twinvec.nearest", "query", [], {"queries": [{"key": "a"}], "kk": 1}, "unknown field `kk`"),
        ("twinvec.nearest", "query", [], {"queries": [{"key": 1}]}, r"queries\[0\].key"),
        ("twinvec.nearest", "query", [], {"queries": [{"picture": "?"}]}, r"queries\[0\].picture"),
        ("twinvec.nearest", "query", [], {"queries": [{}]}, r"queries\[0\] is not one of"),
        ("twinvec.nearest", "query", [{"answers": []}], {"queries": [{"key": "a"}]}, "twice"),
        ("twinvec.collections", "query", ["x"], {}, "no positional argument"),
        ("twinvec.embed", "intake", [], {"pictures": [{**PICTURE, "label": "3"}]}, r"pictures\[0\].label"),
        ("twinvec.embed", "intake", [], {"pictures": [{**PICTURE, "attributes": {"x": "y" * 5000}}]}, "4,096 bytes"),
        ("twinvec.embed", "intake", [], {"pictures": [PICTURE] * 4097}, "pictures"),
        ("twinvec.delete", "control", [], {"collection": "all"}, "`keys` is missing"),
        ("twinvec.status", "control", ["no id"], {}, "twinvec.status"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_fields_is_answered(
    task: str, lane: str, arguments: Any, keywords: Any, said: str
) -> None:
    found = converted(plain_envelope(task, lane, keywords, arguments=arguments), lane)
    assert found.asked is None
    with pytest.raises(AssertionError, match=said):
        asked(plain_envelope(task, lane, keywords, arguments=arguments), lane)


@pytest.mark.parametrize(
    "options",
    [
        {"chain": [LINK, LINK]},
        {"callbacks": [LINK], "errbacks": [LINK]},
        {"chord": {**LINK, "options": {"queue": "shop", "task_id": "x", "group_id": "y", "link_error": [LINK]}}},
        {"chain": [canvas("group", tasks=[LINK, LINK])]},
        {"chain": [canvas("chord", header=canvas("group", tasks=[LINK]), body=LINK, kwargs={})]},
        {"chain": [{**LINK, "task": "twinvec.nearest", "options": {"queue": "twinvec:query"}}]},
    ],
    ids=["chain", "callbacks", "chord", "group", "chord in a chain", "another look-up"],
)
def test_what_comes_after_a_request_is_kept_for_its_sender(options: dict[str, Any]) -> None:
    message = plain_envelope("twinvec.towers", "control", options={**OPTIONS, **options})
    kept = msgspec.structs.asdict(sender(message, "control"))
    assert {name: kept[name] for name in options} == options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chain": [{**LINK, "options": {"queue": "twinvec:train"}}]}, "not an application's"),
        ({"chain": [{**LINK, "options": {"queue": "twinvec:unacked"}}]}, "not an application's"),
        ({"chain": [{**LINK, "options": {"exchange": "x"}}]}, "a signature is not one"),
        ({"chain": [{**LINK, "options": {"eta": "2099-01-01"}}]}, "a signature is not one"),
        ({"chain": [{**LINK, "task": "celery.chord_unlock"}]}, "Celery's own"),
        ({"chain": [{**LINK, "task": "celery.map", "subtask_type": "map"}]}, "a signature is not one"),
        ({"chain": [{**LINK, "subtask_type": "group"}]}, "is not a group"),
        ({"chain": [canvas("group", tasks=[{**LINK, "task": "celery.backend_cleanup"}])]}, "Celery's own"),
        ({"callbacks": [{**LINK, "options": {"link": [{**LINK, "task": "celery.x"}]}}]}, "Celery's own"),
        ({"chord": {**LINK, "task": "celery.x"}}, "Celery's own"),
        ({"chain": [LINK] * 1001}, "more than"),
        ({"chain": ["x"]}, "its body is not"),
        ({"callbacks": [{**LINK, "args": ["x" * 300_000]}]}, "bytes"),
        ({"stamps": {"x": 1}}, "its body is not"),
    ],
)  # fmt: skip
def test_nothing_else_comes_after_it(options: dict[str, Any], said: str) -> None:
    with pytest.raises(NotAdmitted, match=said):
        admit(plain_envelope("twinvec.towers", "control", options={**OPTIONS, **options}), "control")


def test_signatures_in_each_other_have_an_end() -> None:
    deep = LINK
    for _ in range(20):
        deep = canvas("group", tasks=[deep])
    with pytest.raises(NotAdmitted, match="in each other"):
        admit(plain_envelope("twinvec.towers", "control", options={**OPTIONS, "chain": [deep]}), "control")
    body = "[[], {}, {" + '"chain": [' + "[" * 50_000 + "]" * 50_000 + "]}]"
    message = plain_envelope("twinvec.towers", "control") | {"body": base64.b64encode(body.encode()).decode()}
    with pytest.raises(NotAdmitted, match="its body is not"):
        admit(message, "control")


@pytest.mark.parametrize(
    ("task", "lane", "key", "said"),
    [
        ("twinvec.embed", "embed", "twinvec:embed", "not one that the lane embed takes in JSON"),
        ("twinvec.intake", "intake", "twinvec:intake", "not one that the lane intake takes in JSON"),
        ("twinvec.sweep", "control", "twinvec:control", "not one that the lane control takes in JSON"),
        ("twinvec.plain", "control", "twinvec:control", "not one that the lane control takes in JSON"),
        ("twinvec.towers", "query", "twinvec:query", "not one that the lane query takes in JSON"),
        ("twinvec.towers", "control", "control", "was not sent to the queue twinvec:control"),
    ],
)
def test_json_is_taken_for_what_it_is_meant_for_alone(task: str, lane: str, key: str, said: str) -> None:
    message = plain_envelope(task, lane)
    message["properties"]["delivery_info"]["routing_key"] = key
    with pytest.raises(NotAdmitted, match=said):
        admit(message, lane)


def test_the_task_of_converted_requests_is_checked_where_somebody_sends_it() -> None:
    honest = keywords_of(admit(plain_envelope("twinvec.towers", "control"), "control"))
    for spoilt in (
        {"sender": msgspec.json.encode({"id": "x", "ignore_result": False, "chain": [{**LINK, "task": "celery.x"}]})},
        {"sender": b"{}"},
        {"task": "twinvec.train"},
        {"more": 1},
    ):
        with pytest.raises(NotAdmitted):
            admit(envelope(PLAIN, "control", honest | spoilt), "control")
    with pytest.raises(NotAdmitted, match="not one of the lane"):
        admit(envelope(PLAIN, "embed", honest), "embed")
    assert admit(envelope(PLAIN, "control", honest), "control")


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_whatever_is_spoilt_celery_sees_only_a_converted_request(seed: int) -> None:
    honest = plain_envelope(
        "twinvec.nearest", "query", {"queries": [{"key": "a"}]}, options={**OPTIONS, "chain": [LINK]}
    )
    whole = admit(honest, "query")
    written = spoil(honest, random.Random(seed))
    try:
        found = admit(json.loads(written), "query")
    except (NotAdmitted, ValueError):
        return
    assert found.keys() == whole.keys()
    assert found["headers"].keys() - {"redelivered", "installation"} == whole["headers"].keys()
    for name in ("eta", "timelimit", "stamps", "retries", "group", "shadow", "stamped_headers"):
        assert found["headers"][name] == whole["headers"][name]
    arguments, keywords, options = msgpack.unpackb(base64.b64decode(found["body"]))
    assert (arguments, any(options.values())) == ([], False)
    assert keywords.keys() == {"task", "asked", "refusal", "sender"}


def test_what_is_large_takes_little_memory_where_it_is_refused() -> None:
    """Empty objects take twenty times as much memory as bytes on the wire."""
    messages = [
        plain_envelope("twinvec.nearest", "query", {"queries": [{}] * (2 * 2**20)}),
        plain_envelope("twinvec.nearest", "query", arguments=[{}] * (2 * 2**20)),
        plain_envelope("twinvec.nearest", "query", {"queries": [{"key": "a", "x": [{}] * (2 * 2**20)}]}),
    ]
    for message in messages:
        tracemalloc.start()
        with suppress(NotAdmitted):
            converted(message, "query")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 100e6
