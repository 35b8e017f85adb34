"""Writes docs/contract.md from the messages: `python -m twinvec_client.contract.document > docs/contract.md`."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

from msgspec import NODEFAULT, UNSET, inspect

from twinvec_client.contract import answers, plain
from twinvec_client.contract.broker import INSTALLATION, KEY_PREFIX, SERIALIZER, SUBSCRIBED, answer_channel, job_channel
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

The header `{SUBSCRIBED}`, true, says that the sender listens for the answer on its channel,
`{answer_channel("ID")}` with the message's id, and has done so since before it sent the message; one that asks for the
answer at intervals leaves the header out. Where messages have piled up on a lane, those with this header whose senders
listen no more are left undone and unanswered, of these tasks, which are for their senders alone:
{", ".join(f"`{message.task}`" for message in MESSAGES if message.awaited)}.

What is answered is a map. A refusal is a map of `error`, the class name of an error of `twinvec_client`, and
`message`, a sentence. Besides those listed, any answered message may be refused with `InvalidRequest` (a field is out
of its limits) and `DatabaseUnavailable`. A client reads the fields that it knows and leaves out others.

An empty message on the channel `{job_channel("ID")}`, with the job's id as it is in a status, announces that the job
has got on: a chunk was accepted, a batch has ended, a training has made progress, or the job was cancelled. It may be
lost, and says nothing itself: ask `twinvec.status`, now and then also without one.
"""


_PLAIN = f"""\
## In plain JSON

Any Celery program may call by name with `celery[redis]` alone, on the same Redis server and database, and with Celery's
own defaults: messages in JSON, no `global_keyprefix`, a result backend at the broker's URL. The name of a lane, to such
a program, is one of {", ".join(f"`{queue}`" for queue in plain.QUEUES)}; write `staging:` for
`{KEY_PREFIX}` where that is the workers' prefix.

```python
import base64
from pathlib import Path

from celery import Celery

shop = Celery("shop", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
picture = base64.b64encode(Path("scans/unknown.png").read_bytes()).decode()
fields = {{"pictures": [{{"key": "cheque-17/3", "picture": picture, "label": 7}}], "id": "cheque 17"}}
job = shop.send_task("twinvec.embed", kwargs=fields, queue="twinvec:intake").get(timeout=60)
fields = {{"queries": [{{"picture": picture}}], "k": 3}}
found = shop.send_task("twinvec.nearest", kwargs=fields, queue="twinvec:query").get(timeout=30)
print(found["answers"][0]["neighbours"][0]["key"])
```

- Bytes are base64, attributes are objects, fields have the defaults below, and an answer has the same fields as above.
  It is kept for an hour.
- A refusal is a failure of the task: `get` raises an exception that has the refusal's class name. One whose fields are
  wrong is `InvalidRequest`, and says which; what is not such a request at all is set aside and never answered.
- A message that a worker had taken when it died may be lost: where no answer comes, send it again. `twinvec.embed` with
  the same `id` stores nothing twice.
- Requests stand in chains, groups and chords, with callbacks and errbacks (called with the task's id). What follows one
  in a chain gets its answer; a request that follows takes what was returned as its first field, marked below, and
  none where it is immutable (`.si`). Each signature of the program's own names its queue (`.set(queue="shop")`):
  workers know no other than `celery`. At most 1,000 signatures and 256 KiB come after a request; dates and Celery's own
  tasks (`chord_unlock`, `map`) are refused.

`examples/plain_celery.py` is a whole program.
"""


def document() -> str:
    """The page, as Markdown."""
    parts = [_INTRODUCTION, "## Messages\n", *map(_message, MESSAGES), "## Records in messages\n"]
    parts += [f"### {record.__name__}\n\n{_doc(record)}\n\n{_struct_table(record)}" for record in (Callback, Query)]
    parts += [_PLAIN, *map(_request, plain.REQUESTS), _struct(plain.Picture), _struct(plain.PlainQuery)]
    parts += ["## Records in answers\n", *map(_record, _records())]
    parts += ["## Reasons of a failure\n", _reasons()]
    return "\n".join(parts)


def _message(message: type[Message]) -> str:
    answer = "nothing" if message.answer is None else _answer(message.answer)
    lines = [f"### `{message.task}`", "", _doc(message), "", f"- Lane: `{message.lane}`", f"- Answer: {answer}"]
    if message.refusals:
        lines.append(f"- Refusals: {', '.join(f'`{name}`' for name in message.refusals)}")
    return "\n".join([*lines, "", _struct_table(message) if message.__struct_fields__ else "No fields.\n"])


def _request(request: type[plain.Request]) -> str:
    assert not isinstance(request.first, property)
    lines = [f"### `{request.task}` in JSON", "", _doc(request), "", f"- Queue: `{KEY_PREFIX}{request.lane}`"]
    lines.append(f"- Answer: {_answer(request.answer)}")
    if request.first is not None:
        lines.append(f"- First, by position: `{request.first}`")
    if request.refusals:
        lines.append(f"- Refusals: {', '.join(f'`{name}`' for name in request.refusals)}")
    return "\n".join([*lines, "", _defaults_table(request) if request.__struct_fields__ else "No fields.\n"])


def _struct(struct: type) -> str:
    return f"### {struct.__name__}\n\n{_doc(struct)}\n\n{_defaults_table(struct)}"


def _defaults_table(struct: Any) -> str:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    rows = [f"| `{field.encode_name}` | {_limited(_set(field.type))} | {_default(field)} |" for field in info.fields]
    return "\n".join(["| field | type and limits | default |", "| --- | --- | --- |", *rows, ""])


def _set(kind: inspect.Type) -> inspect.Type:
    """A field's type where it is given: without the mark of one that was left out."""
    if not isinstance(kind, inspect.UnionType):
        return kind
    types = tuple(each for each in kind.types if each.__class__.__name__ != "CustomType")
    return types[0] if len(types) == 1 else inspect.UnionType(types)


def _default(field: inspect.Field) -> str:
    if field.default in (NODEFAULT, UNSET):
        return "none: give it"
    if field.default is None or isinstance(field.default, bool):  # 0 and 1 equal False and True
        return {None: "null", True: "true", False: "false"}[field.default]
    return f"{field.default}" or '`""`'


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
        case inspect.DictType():
            return "object"
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
