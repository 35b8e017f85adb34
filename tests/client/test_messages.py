"""Every message survives the wire, and a payload that does not have its form is refused by its task and field."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from twinvec_client import Callback as PublicCallback
from twinvec_client import InvalidRequest, errors
from twinvec_client.contract.broker import LANES
from twinvec_client.contract.limits import MAX_NAME_CHARS, holds_nul
from twinvec_client.contract.messages import (
    ENCODED,
    GLYPH,
    MESSAGES,
    REFUSED,
    Annotate,
    BadMessage,
    Callback,
    Delete,
    DoubtfulOf,
    FailuresOf,
    FailuresToRetry,
    GetDigits,
    GetVectors,
    Intake,
    Judge,
    JudgeAgain,
    Message,
    Nearest,
    PauseWork,
    Promote,
    Query,
    ResumeWork,
    Retire,
    StartTraining,
)
from worker import admission


def values(declared: Any) -> st.SearchStrategy[Any]:
    """Values of a field's declared type and limits, as msgpack gives them back: sequences are lists."""
    match declared:
        case inspect.StrType(min_length=least, max_length=most, pattern=None):
            return st.text(min_size=least or 0, max_size=min(most or 20, 20))
        case inspect.StrType(min_length=least, max_length=most, pattern=str(pattern)):
            strings = st.from_regex(pattern)
            return strings.filter(lambda text: (least or 0) <= len(text) <= (most or 1000))
        case inspect.IntType(ge=least, le=most, lt=below):
            return st.integers(-(2**63) if least is None else least, most or (2**63 if below is None else below) - 1)
        case inspect.BytesType(min_length=least, max_length=most):
            return st.binary(min_size=least or 0, max_size=min(most or 20, max(20, least or 0)))
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most, allow_nan=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=each):
            return st.sampled_from(each)
        case inspect.TupleType(item_types=of):
            return st.tuples(*map(values, of)).map(list)
        case inspect.ListType(item_type=of, min_length=least):
            return st.lists(values(of), min_size=least or 0, max_size=max(3, least or 0))
        case inspect.UnionType(types=each):
            return st.one_of(*map(values, each))
        case inspect.StructType(cls=cls) if cls is Query:
            return queries(declared)
        case inspect.StructType():
            return fields(declared)
    raise AssertionError(f"no values are known for {declared}")


def fields(declared: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.encode_name: values(field.type) for field in declared.fields})


def queries(declared: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    """One of its forms, its collection and place aside, and the tower but for a vector."""
    forms = [
        st.fixed_dictionaries({field.name: values(field.type).filter(lambda value: value is not None)})
        for field in declared.fields
        if field.name not in ("collection", "tower", "after")
    ]
    return st.one_of(*forms).map(lambda form: form | {"tower": "0" * 64} if "vector" in form else form)


def agreeing(chunk: dict[str, Any], types: bytes) -> dict[str, Any]:
    """A chunk's fields, with as many of each as `types` says."""
    return chunk | {
        "keys": [f"key {at}" for at in range(len(types))],
        "item_types": types,
        "encoded": [b"file"] * types.count(ENCODED),
        "refused": [["unreadable", "gone"]] * types.count(REFUSED),
        "labels": None if chunk["labels"] is None else [7] * len(types),
        "attributes": None if chunk["attributes"] is None else [None] * len(types),
        "total": None if chunk["total"] is None else len(types) + chunk["total"],
    }


def each_has_one(change: dict[str, Any]) -> dict[str, Any]:
    """A change of labels and attributes, with as many of each as it has keys."""
    labels, attributes, count = change["labels"], change["attributes"], len(change["keys"])
    return change | {
        "labels": None if labels is None else [7] * count,
        "attributes": None if attributes is None else [None] * count,
    }


def payloads(kind: type[Message]) -> st.SearchStrategy[dict[str, Any]]:
    declared = inspect.type_info(kind)
    assert isinstance(declared, inspect.StructType)
    if kind is Nearest:
        contained = st.none() | st.dictionaries(st.text(max_size=3).filter(storable), st.integers()).map(json.dumps)
        known = fields(declared).filter(lambda payload: storable(payload["collection"] or ""))
        return st.builds(lambda payload, text: payload | {"attributes": text}, known, contained)
    if kind is Annotate:
        return st.builds(each_has_one, fields(declared))
    if kind is Judge:
        return fields(declared).map(lambda said: said | {"others": said["keys"], "same": [None for _ in said["keys"]]})
    if kind in (PauseWork, ResumeWork):
        one = st.sampled_from(["paused_lane", "job"])
        return st.builds(held, fields(declared), one, st.from_regex(JOB, fullmatch=True))
    if not issubclass(kind, Intake):
        return fields(declared)
    types = st.lists(st.sampled_from([GLYPH, ENCODED, REFUSED]), max_size=5).map(bytes)
    chunk = st.builds(agreeing, fields(declared), types)
    return chunk if kind is Intake else chunk.map(lambda job: job | {"seq": 0, "total": len(job["keys"])})


JOB = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def held(payload: dict[str, Any], one: str, job: str) -> dict[str, Any]:
    """A lane, or a job, which does not drain."""
    if one == "paused_lane":
        return payload | {"paused_lane": payload["paused_lane"] or "embed", "job": None}
    return payload | {"paused_lane": None, "job": job} | ({"drain": False} if "drain" in payload else {})


def storable(text: str | list[str]) -> bool:
    return "\0" not in text


def example(kind: type[Message]) -> dict[str, Any]:
    """The plainest payload."""
    plain: dict[str, Any] = {
        "job": "00000000-0000-4000-8000-000000000001", "seq": 0, "collection": "c", "key": "a", "keys": [],
        "item_types": b"", "glyphs": b"", "encoded": [], "refused": [], "labels": None, "attributes": None,
        "normalise": True, "callback": None, "resent": False, "digest": b"d", "total": 0, "first": b"d", "batch": 1,
        "recipe": "quick",
        "queries": [], "k": 5, "after": 0, "limit": 5, "jobs": 5, "pictures": False, "seed": 0,
        "label": None, "max_distance": None, "match": False, "count": 0, "tower": None, "distance": None, "every": 1,
        "priority": 1, "other_collection": "c", "others": ["b"], "same": [None], "by": "me",
        "data": "both", "started_by": None, "leaving": 2, "at_once": False, "force": False,
        "paused_lane": "embed", "drain": False, "why": None, "since": None, "kind": None, "state": None, "reason": None,
    }  # fmt: skip
    by_key = {"after": ""}
    some = {"keys": ["a"]}
    own: dict[type, dict[str, Any]] = {
        Judge: some,
        FailuresOf: by_key,
        DoubtfulOf: by_key,
        FailuresToRetry: by_key,
        PauseWork: {"job": None},
        ResumeWork: {"job": None},
        Nearest: {"attributes": None},
        GetDigits: some,
        GetVectors: some,
        Annotate: {"keys": ["a"], "labels": [7], "attributes": [None]},
        Delete: some,
        **{kind: {"tower": 1} for kind in (Promote, Retire, JudgeAgain)},
    }
    return {name: plain[name] for name in kind.__struct_fields__} | own.get(kind, {})


CONTAINERS = (inspect.CollectionType, inspect.TupleType, inspect.DictType)


def inspected(declared: inspect.Type) -> Iterator[inspect.Type]:
    """The type and all types in it."""
    yield declared
    inside: list[inspect.Type] = []
    match declared:
        case inspect.StructType(fields=fields):
            inside = [field.type for field in fields]
        case inspect.UnionType(types=types) | inspect.TupleType(item_types=types):
            inside = list(types)
        case inspect.CollectionType(item_type=item):
            inside = [item]
        case inspect.DictType(key_type=key, value_type=value):
            inside = [key, value]
    for each in inside:
        yield from inspected(each)


each_message = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


@each_message
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_message_comes_back_from_the_wire_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    message = kind.read(data.draw(payloads(kind)))
    assert kind.read(msgpack.unpackb(msgpack.packb(message.write()))) == message


@each_message
def test_a_message_with_an_unknown_field_is_refused(kind: type[Message]) -> None:
    kind.read(example(kind))
    with pytest.raises(BadMessage, match=rf"^{kind.task}: .*newer"):
        kind.read(example(kind) | {"newer": 1})


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, name) for kind in MESSAGES for name in kind.__struct_fields__],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_message_with_a_missing_field_or_one_of_another_type_is_refused(kind: type[Message], field: str) -> None:
    payload = example(kind)
    with pytest.raises(BadMessage, match=rf"^{kind.task}: .*{field}"):
        kind.read({name: value for name, value in payload.items() if name != field})
    for junk in (object(), "1.5" if field.endswith(("distance", "since")) else 1.5, {"a": 1}, [object()]):
        with pytest.raises(BadMessage, match=rf"^{kind.task}: {field}"):
            kind.read(payload | {field: junk})


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": text}
        for text in ("", "7", "[]", "{", '{"a": NaN}', r'{"a": "\u0000"}', "{" * 4000, "{}" + " " * 4095)
    ]
    + [{"max_distance": bad} for bad in (-1.0, float("nan"))]
    + [{"collection": bad} for bad in ([], [""], ["a"] * 101, "a\0b", ["a\0b"])]
    + [{"queries": [{"glyph": bytes(784), "collection": "a\0b"}]}]
    + [{"queries": [{"glyph": bytes(784), "tower": "0" * 64}]}, {"queries": [{"vector": [0.0] * 128, "tower": "0"}]}],
    ids=lambda change: str(change)[:40],
)
def test_what_cannot_limit_a_search_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        Nearest.read(example(Nearest) | change)


@pytest.mark.parametrize("checked", [*MESSAGES, admission._Envelope], ids=lambda kind: kind.__name__)
def test_no_text_with_a_pattern_stands_beside_a_list(checked: type[msgspec.Struct]) -> None:
    """msgspec 0.22 takes the pattern of such a type for a type of its own and frees it: a process ends by a signal."""
    for each in inspected(inspect.type_info(checked)):
        if isinstance(each, inspect.UnionType):
            patterned = any(isinstance(one, inspect.StrType) and one.pattern is not None for one in each.types)
            assert not patterned or not any(isinstance(one, CONTAINERS) for one in each.types), each


@pytest.mark.parametrize("payload", [None, [], 7, "text", b"bytes"])
def test_what_is_not_a_dict_of_fields_is_refused(payload: Any) -> None:
    with pytest.raises(BadMessage):
        StartTraining.read(payload)


def test_messages_have_tasks_of_their_own_and_lanes_that_exist() -> None:
    assert len({message.task for message in MESSAGES}) == len(MESSAGES)
    assert {message.lane for message in MESSAGES} == set(LANES)


def test_what_a_message_may_be_refused_with_are_errors_of_the_client() -> None:
    for message in MESSAGES:
        for name in message.refusals:
            assert type(errors.revive(name, "a sentence")) is getattr(errors, name)


@pytest.mark.parametrize("name", ["", "a\0b", "twinvec:embed", "x" * (MAX_NAME_CHARS + 1), None, 7])
def test_what_cannot_be_called_back_is_refused_on_both_sides(name: Any) -> None:
    for given_names in ((name, "queue"), ("task", name)):
        with pytest.raises(InvalidRequest):
            PublicCallback(*given_names)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(dict(zip(("task", "queue"), given_names, strict=True)), Callback)


def test_a_callback_travels_as_the_contract_has_it() -> None:
    request = StartTraining.read(example(StartTraining))
    request = msgspec.structs.replace(request, callback=PublicCallback("a"))
    assert request.write()["callback"] == {"task": "a", "queue": "celery"}
    assert StartTraining.read(request.write()).callback == Callback("a", "celery")


@pytest.mark.parametrize(
    ("json_text", "nul"),
    [
        (r'"\u0000"', True),
        (r'"\\u0000"', False),
        (r'"\\\u0000"', True),
        (r'"\\\\u0000"', False),
        (r'"\u00001"', True),
        (r'"u0000"', False),
    ],
)
def test_nul_is_told_from_a_backslash(json_text: str, nul: bool) -> None:
    assert holds_nul(json_text) is nul
