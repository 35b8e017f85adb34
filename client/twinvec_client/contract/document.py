"""Writes docs/contract.md from the messages: `python -m twinvec_client.contract.document > docs/contract.md`."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

from msgspec import inspect

from twinvec_client.contract import answers
from twinvec_client.contract.broker import INSTALLATION, KEY_PREFIX, SERIALIZER, job_channel
from twinvec_client.contract.messages import MESSAGES, Callback, Message, Query
from twinvec_client.contract.reasons import REASONS

_NAMES = {str: "string", int: "integer", float: "float", bool: "boolean", bytes: "bytes", type(None): "nil", Any: "any"}

_INTRODUCTION = f"""\
# The contract on the wire

Written from `twinvec_client.contract` by `make docs`; a test keeps it current.

A message is a Celery task message whose keyword arguments are the fields below, serialised as {SERIALIZER}. Its queue
is its lane; every key in Redis begins with `{KEY_PREFIX}`, or with another prefix that workers and clients are given. A
field that is missing, unknown, or out of its type or limits refuses the whole message.

The header `{INSTALLATION}` names the installation that the sender means, by its id, a UUID. Another one refuses the
message with `OtherInstallation`, and does nothing. Every answer has the id of the one that gave it in its field
`{INSTALLATION}`; a client sends the first that it was given with all that follows.

What is answered is a map. A refusal is a map of `error`, the class name of an error of `twinvec_client`, and
`message`, a sentence. Besides those listed, any answered message may be refused with `InvalidRequest` (a field is out
of its limits) and `DatabaseUnavailable`. A client reads the fields that it knows and leaves out others.

An empty message on the channel `{job_channel("ID")}`, with the job's id as it is in a status, announces that the job
has got on: a chunk was accepted, a batch has ended, a training has made progress, or the job was cancelled. It may be
lost, and says nothing itself: ask `twinvec.status`, now and then also without one.
"""


def document() -> str:
    """The page, as Markdown."""
    parts = [_INTRODUCTION, "## Messages\n", *map(_message, MESSAGES), "## Records in messages\n"]
    parts += [f"### {record.__name__}\n\n{_doc(record)}\n\n{_struct_table(record)}" for record in (Callback, Query)]
    parts += ["## Records in answers\n", *map(_record, _records())]
    parts += ["## Reasons of a failure\n", _reasons()]
    return "\n".join(parts)


def _message(message: type[Message]) -> str:
    answer = "nothing" if message.answer is None else _answer(message.answer)
    lines = [f"### `{message.task}`", "", _doc(message), "", f"- Lane: `{message.lane}`", f"- Answer: {answer}"]
    if message.refusals:
        lines.append(f"- Refusals: {', '.join(f'`{name}`' for name in message.refusals)}")
    return "\n".join([*lines, "", _struct_table(message) if message.__struct_fields__ else "No fields.\n"])


def _struct_table(struct: Any) -> str:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    rows = [f"| `{field.encode_name}` | {_limited(field.type)} |" for field in info.fields]
    return "\n".join(["| field | type and limits |", "| --- | --- |", *rows, ""])


def _limited(kind: inspect.Type) -> str:
    """A field's type in words, with its limits."""
    match kind:
        case inspect.StrType():
            if kind.pattern is not None and "{64}" in kind.pattern:
                return "SHA-256 (as text, 64 hexadecimal digits in lower case)"
            if kind.pattern is not None and "[0-9a-f]" in kind.pattern:
                return "UUID (as text, in lower case with hyphens)"
            return _joined("string", _span(kind.min_length, kind.max_length, "characters"), _in_words(kind.pattern))
        case inspect.BytesType():
            return _joined("bytes", _span(kind.min_length, kind.max_length, ""))
        case inspect.IntType():
            most = kind.lt - 1 if kind.lt is not None else kind.le
            return _joined("integer", _span(kind.ge, most, ""))
        case inspect.FloatType():
            if kind.le is not None:
                return "float (finite as float32)"
            return _joined("float", _span(kind.ge, None, ""))
        case inspect.BoolType():
            return "boolean"
        case inspect.NoneType():
            return "nil"
        case inspect.LiteralType():
            return f"({' or '.join(f'`{value}`' for value in kind.values)})"
        case inspect.ListType():
            of = _limited(kind.item_type)
            span = _span(kind.min_length, kind.max_length, "items")
            return f"{_joined('array', span)} of {f'({of})' if of.endswith(' or nil') else of}"
        case inspect.TupleType():
            return f"[{', '.join(map(_limited, kind.item_types))}]"
        case inspect.UnionType():
            each = sorted(map(_limited, kind.types), key=lambda words: words == "nil")
            return " or ".join(each)
        case inspect.StructType():
            return kind.cls.__name__
    raise TypeError(f"no words for {kind}")


def _in_words(pattern: str | None) -> str:
    if pattern is None:
        return ""
    return f"without NUL, not beginning with `{KEY_PREFIX}`" if KEY_PREFIX in pattern else "without NUL"


def _span(least: float | None, most: float | None, of: str) -> str:
    if least is None and most is None:
        return ""
    if least == most:
        return f"{least:,} {of}".strip()
    if most is None:
        return f"{least:,} or more {of}".strip()
    return (f"at most {most:,} {of}" if least is None else f"{least:,} to {most:,} {of}").strip()


def _joined(kind: str, *limits: str) -> str:
    said = ", ".join(filter(None, limits))
    return f"{kind} ({said})" if said else kind


def _answer(answer: type) -> str:
    if dataclasses.is_dataclass(answer):
        return answer.__name__
    return f"{{{', '.join(f'`{name}`: {_plain(kind)}' for name, kind in typing.get_type_hints(answer).items())}}}"


def _records() -> list[type]:
    """The records that answers are made of, in the order of their module."""
    return [each for each in vars(answers).values() if dataclasses.is_dataclass(each) and isinstance(each, type)]


def _record(record: type) -> str:
    hints = typing.get_type_hints(record)
    rows = []
    for field in dataclasses.fields(record):
        kind = _plain(hints[field.name])
        wire = field.metadata.get("wire")
        rows.append(f"| `{field.name}` | {f'{wire} or nil' if wire else kind} |")
    return "\n".join([f"### {record.__name__}", "", _doc(record), "", "| field | type |", "| --- | --- |", *rows, ""])


def _plain(kind: Any) -> str:
    """A type in words."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _plain(of[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in of)
    if origin is list:
        return f"array of {_plain(of[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_plain, of))}]"
    if origin is dict:
        return "map" if of[1] is Any else f"map of {_plain(of[0])} to {_plain(of[1])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_plain, of))
    return str(_NAMES.get(kind) or kind.__name__)


def _doc(documented: type) -> str:
    """A class's docstring as paragraphs of one line."""
    text = (documented.__doc__ or "").replace("\n    ", "\n").strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _reasons() -> str:
    rows = [f"| `{code}` | {words} |" for code, words in REASONS.items()]
    return "\n".join(["| code | what it says |", "| --- | --- |", *rows, ""])


if __name__ == "__main__":
    print(document(), end="")
