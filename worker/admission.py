"""Decides which messages Celery may see: it ends its process on many that no client sends, and obeys others.

What is admitted is built anew from the fields checked here, so that nothing else reaches Celery: no compression, no
callbacks, no chains, no time limits, no date before which it is kept in memory. A request in plain JSON becomes the
message that asks for the same, in a message of our own beside what its sender is to be told; Celery's own decoder of
JSON, which makes objects of what says so, reads none of it. It must not know transports or tasks.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from datetime import datetime
from types import GenericAlias
from typing import Annotated, Any, Literal

import msgpack
import msgspec
from msgspec import Meta

from twinvec_client.contract import plain
from twinvec_client.contract.broker import INSTALLATION, KEY_PREFIX, LANES, SERIALIZER, SUBSCRIBED
from twinvec_client.contract.limits import MAX_MESSAGE_BYTES
from twinvec_client.contract.messages import MESSAGES, BadMessage, Probe
from worker.continuations import NotContinued, check

ADMITTED = {lane: {message.task for message in MESSAGES if message.lane == lane} | {Probe.task} for lane in LANES}

# Bytes of a body that is not unpacked before its fields have their types: small objects take 73 times what they take on
# the wire.
LARGE = 2 * 2**20
PLAIN = "twinvec.plain"  # the task of what was sent in plain JSON
PLAIN_LANES = {request.lane for request in plain.REQUESTS}

LARGE_CANVAS = 256 * 1024  # bytes of the tasks that come after a request
MAX_REFUSAL = 2000  # characters of a sentence
JSON = "application/json"

_SIMPLE = r"^[\w.:@-]+$"

Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=_SIMPLE)]


class NotAdmitted(ValueError):
    """A message is not one that a client of ours, or another Celery application, sends to this lane."""


class Sender(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sent a request in plain JSON, and what comes after it: as the headers and options of its message said."""

    id: Name
    ignore_result: bool
    group: Name | None = None
    group_index: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    root_id: Name | None = None
    parent_id: Name | None = None
    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None


class Converted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request in plain JSON, as its task gets it.

    asked: the message that asks for the same, as msgpack; None where `refusal` says why there is none. sender: a
    `Sender` as JSON.
    """

    task: Name  # of the message
    asked: bytes | None
    refusal: str | None
    sender: bytes


_KINDS: dict[str, type[msgspec.Struct]] = {**plain.KINDS, PLAIN: Converted}
_CONTENTS = {
    task: GenericAlias(tuple, (GenericAlias(list, (type(None),)), kind, GenericAlias(dict, (str, Any))))
    for task, kind in _KINDS.items()
}


class _Headers(msgspec.Struct, frozen=True, kw_only=True):
    """Of Celery's protocol 2, as far as they matter; others are left out."""

    task: Name
    id: Name
    eta: None = None
    expires: Annotated[str, Meta(max_length=64)] | None = None
    compression: None = None
    ignore_result: bool | None = None  # None: as the task itself has it
    redelivered: bool = False
    installation: Annotated[str, Meta(max_length=36)] | None = None  # that its sender means
    subscribed: Any = None  # whether its sender listens for the answer; whatever another application means by it

    def __post_init__(self) -> None:
        if self.expires is not None:
            datetime.fromisoformat(self.expires)

    def rewritten(self) -> dict[str, Any]:
        return {
            "lang": "py",
            "task": self.task,
            "id": self.id,
            "shadow": None,
            "eta": None,
            "expires": self.expires,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": self.id,
            "parent_id": None,
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "",
            "ignore_result": self.ignore_result,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            **({"redelivered": True} if self.redelivered else {}),
            **({} if self.installation is None else {INSTALLATION: self.installation}),
            **({SUBSCRIBED: True} if self.subscribed is True else {}),
        }


class _DeliveryInfo(msgspec.Struct, frozen=True, kw_only=True):
    exchange: Literal[""]
    routing_key: str
    redelivered: bool = False


class _Properties(msgspec.Struct, frozen=True, kw_only=True):
    delivery_tag: Name
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]
    correlation_id: Name | None = None
    reply_to: Name | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = 0
    delivery_mode: Literal[1, 2] = 2


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """As kombu writes it for Redis."""

    body: str
    content_type: str = msgspec.field(name="content-type")
    content_encoding: str = msgspec.field(name="content-encoding")
    headers: _Headers
    properties: _Properties


class _PlainHeaders(_Headers, frozen=True, kw_only=True):
    group: Name | None = None
    group_index: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    root_id: Name | None = None
    parent_id: Name | None = None


class _PlainEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    headers: _PlainHeaders


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Celery writes behind a task's arguments."""

    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None


def admit(message: Any, lane: str, keys: str = KEY_PREFIX) -> dict[str, Any]:
    """The message as Celery may see it. Raises NotAdmitted.

    message: what stood in the lane, as JSON is read: anything at all. keys: what the installation's keys begin with,
    and the names of the lanes as an application has them that knows of no prefix.
    """
    try:
        envelope = msgspec.convert(message, _Envelope)
        if envelope.content_type == JSON:
            return _admit_plain(envelope, msgspec.convert(message, _PlainEnvelope).headers, lane, keys)
    except (msgspec.ValidationError, TypeError) as error:
        raise NotAdmitted(_sentence(str(error))) from None
    headers, properties = envelope.headers, envelope.properties
    if headers.task not in ADMITTED[lane] and (headers.task != PLAIN or lane not in PLAIN_LANES):
        raise NotAdmitted(f"the task {headers.task} is not one of the lane {lane}")
    if properties.delivery_info.routing_key != lane:  # there it would be put back
        raise NotAdmitted("it was sent to another lane")
    if envelope.content_type != f"application/x-{SERIALIZER}":
        raise NotAdmitted(f"its content is of the type {envelope.content_type:.80}, and not {SERIALIZER}")
    if envelope.content_encoding != "binary":
        raise NotAdmitted(f"its content is encoded as {envelope.content_encoding:.80}, and not binary")
    keywords = _check_body(envelope.body, headers.task)
    if headers.task == PLAIN:  # given back to the lane after it was converted, or written by somebody in that form
        _check_converted(keywords, lane, keys)
    return {**msgspec.to_builtins(envelope), "headers": headers.rewritten()}


def keywords_of(admitted: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that an admitted message has for its task."""
    keywords: dict[str, Any] = msgpack.unpackb(b64decode(admitted["body"]))[1]
    return keywords


def _admit_plain(envelope: _Envelope, headers: _PlainHeaders, lane: str, keys: str) -> dict[str, Any]:
    """A request in plain JSON as a message of our own. Raises NotAdmitted.

    What is wrong with its fields is answered; what is wrong with anything else is not, as nobody knows who asks.
    """
    kind = plain.request_of(lane, headers.task)
    if kind is None:
        raise NotAdmitted(f"the task {headers.task} is not one that the lane {lane} takes in JSON")
    if envelope.properties.delivery_info.routing_key != keys + lane:
        raise NotAdmitted(f"it is JSON and was not sent to the queue {keys}{lane}, by an application without a prefix")
    if envelope.content_encoding not in ("utf-8", "utf8"):
        raise NotAdmitted(f"its content is encoded as {envelope.content_encoding:.80}, and not utf-8")
    content = _content(envelope.body)
    try:
        positional, keywords, options = msgspec.json.decode(content, type=tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw])
        first = _only(bytes(positional))
        if len(bytes(options)) > LARGE_CANVAS:
            raise NotAdmitted(f"what comes after it has more than {LARGE_CANVAS:,} bytes")
        after = msgspec.json.decode(bytes(options), type=_Options)
        sender = Sender(
            id=headers.id,
            ignore_result=bool(headers.ignore_result),
            group=headers.group,
            group_index=headers.group_index,
            root_id=headers.root_id,
            parent_id=headers.parent_id,
            **msgspec.structs.asdict(after),
        )
        _check_sender(sender, keys)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NotAdmitted(f"its body is not arguments, keyword arguments and options in JSON: {error}") from None
    asked = refusal = None
    try:
        asked = plain.read(kind, first, bytes(keywords)).message(headers.id).pack()
    except BadMessage as error:
        refusal = str(error)[:MAX_REFUSAL]
    converted = Converted(task=kind.kind.task, asked=asked, refusal=refusal, sender=msgspec.json.encode(sender))
    body = msgpack.packb([[], msgspec.to_builtins(converted, builtin_types=(bytes,)), {}])
    rewritten = {**headers.rewritten(), "task": PLAIN, "ignore_result": True}
    whole = {**msgspec.to_builtins(envelope), "headers": rewritten, "body": b64encode(body).decode()}
    whole["properties"]["delivery_info"]["routing_key"] = lane  # where it would be given back to
    return whole | {"content-type": f"application/x-{SERIALIZER}", "content-encoding": "binary"}


def _only(arguments: bytes) -> bytes | None:
    """The one positional argument, as JSON; None where there is none. Raises ValidationError."""
    if arguments.strip(b"[ \t\r\n]") == b"" and msgspec.json.decode(arguments, type=list[None]) == []:
        return None
    return bytes(msgspec.json.decode(arguments, type=tuple[msgspec.Raw])[0])


def _check_converted(keywords: dict[str, Any], lane: str, keys: str) -> None:
    """Raises NotAdmitted unless this is what a request in plain JSON of this lane is converted to."""
    try:
        converted = msgspec.convert(keywords, Converted, builtin_types=(bytes,))
        if (lane, converted.task) not in plain.ASKED:
            raise NotAdmitted(f"the task {converted.task} is not one that the lane {lane} takes in JSON")
        if len(converted.sender) > LARGE_CANVAS + MAX_REFUSAL:
            raise NotAdmitted(f"what comes after it has more than {LARGE_CANVAS:,} bytes")
        _check_sender(msgspec.json.decode(converted.sender, type=Sender), keys)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NotAdmitted(_sentence(str(error))) from None


def _check_sender(sender: Sender, keys: str) -> None:
    """Raises NotAdmitted where something is to be done afterwards that a chain, group or chord does not say."""
    links = [*(sender.callbacks or ()), *(sender.errbacks or ()), *(sender.chain or ())]
    if sender.chord is not None:
        links.append(sender.chord)
    try:
        check(links, keys)
    except NotContinued as error:
        raise NotAdmitted(f"what comes after it: {error}") from None


def _content(body: str) -> bytes:
    """Raises NotAdmitted unless it is base64, and not too much."""
    if len(body) > MAX_MESSAGE_BYTES * 4 / 3 + 4:
        raise NotAdmitted(f"it has {len(body):,} characters; at most {MAX_MESSAGE_BYTES:,} bytes are taken")
    try:
        return b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAdmitted(f"its body is not base64: {error}") from None


def _check_body(body: str, task: str) -> dict[str, Any]:
    """Its keyword arguments. Raises NotAdmitted unless it is the arguments of a task, and nothing to do before or
    after it."""
    packed = _content(body)
    try:
        if len(packed) > LARGE:
            msgspec.msgpack.decode(packed, type=_CONTENTS[task])
        content = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException, msgspec.MsgspecError) as error:
        raise NotAdmitted(f"its body is not {SERIALIZER}: {error or type(error).__name__}") from None
    if not (isinstance(content, list) and [type(part) for part in content] == [list, dict, dict]):
        raise NotAdmitted("its body is not a list of arguments, keyword arguments and options")
    arguments: list[Any]
    keywords: dict[str, Any]
    arguments, keywords, options = content
    if arguments or not all(isinstance(name, str) for name in keywords):
        raise NotAdmitted("its arguments are not keyword arguments alone")
    if unknown := sorted(str(name) for name, value in options.items() if value):
        raise NotAdmitted(f"it asks for {', '.join(unknown)[:80]}, which is not done here")
    return keywords


def _sentence(error: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.headers.id`", with the place first."""
    reason, _, place = error.partition(" - at `$.")
    return f"{place.rstrip('`')}: {reason[:1].lower()}{reason[1:]}" if place else reason[:1].lower() + reason[1:]
