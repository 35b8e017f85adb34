"""Every message survives the wire, and what is no message is refused."""

import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinvec_client.contract.broker import LANES
from twinvec_client.contract.limits import holds_nul
from twinvec_client.contract.messages import MESSAGES, BadMessage, Message

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**64 - 1),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    type(None): st.none(),
    Any: st.one_of(st.none(), st.text(max_size=5), st.binary(max_size=5), st.floats(allow_nan=False)),
}


def values(declared: Any) -> st.SearchStrategy[Any]:
    """Values of a field's declared type, as msgpack gives them back: sequences are lists."""
    if declared in LEAVES:
        return LEAVES[declared]
    kind, of = typing.get_origin(declared), typing.get_args(declared)
    if kind in (list, Sequence):
        return st.lists(values(of[0]), max_size=3)
    if kind is tuple:
        return st.tuples(*map(values, of)).map(list)
    if kind is dict:
        return st.dictionaries(values(of[0]), values(of[1]), max_size=3)
    assert kind is types.UnionType, declared
    return st.one_of(*map(values, of))


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    declared = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(declared[field.name]) for field in fields(kind)})


each_message = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


@each_message
@given(data=st.data())
def test_a_message_comes_back_from_the_wire_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert kind.read(msgpack.unpackb(msgpack.packb(message.write()))) == message


@each_message
def test_a_message_with_an_unknown_field_is_refused(kind: type[Message]) -> None:
    payload: dict[str, Any] = {field.name: None for field in fields(kind)}
    kind.read(payload)
    with pytest.raises(BadMessage, match=kind.task):
        kind.read(payload | {"newer": 1})


@pytest.mark.parametrize(
    ("kind", "missing"),
    [(kind, field.name) for kind in MESSAGES for field in fields(kind)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_message_with_a_missing_field_is_refused(kind: type[Message], missing: str) -> None:
    payload = {field.name: None for field in fields(kind) if field.name != missing}
    with pytest.raises(BadMessage, match=missing):
        kind.read(payload)


def test_messages_have_tasks_of_their_own_and_lanes_that_exist() -> None:
    assert len({message.task for message in MESSAGES}) == len(MESSAGES)
    assert {message.lane for message in MESSAGES} == set(LANES)


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
