"""Decides which messages Celery may see: it ends its process on many that no client sends, and obeys others.

What is admitted is built anew from the fields checked here, so that nothing else reaches Celery: no compression, no
callbacks, no chains, no time limits, no date before which it is kept in memory. It must not know transports or tasks.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from datetime import datetime
from types import GenericAlias
from typing import Annotated, Any, Literal

import msgpack
import msgspec
from msgspec import Meta

from twinvec_client.contract.broker import LANES, SERIALIZER
from twinvec_client.contract.limits import MAX_MESSAGE_BYTES
from twinvec_client.contract.messages import MESSAGES, Message, Probe

ADMITTED = {lane: {message.task for message in MESSAGES if message.lane == lane} | {Probe.task} for lane in LANES}

# Bytes of a body that is not unpacked before its fields have their types: small objects take 73 times what they take on
# the wire.
LARGE = 2 * 2**20
_KINDS: tuple[type[Message], ...] = (*MESSAGES, Probe)
_CONTENTS = {
    kind.task: GenericAlias(tuple, (GenericAlias(list, (type(None),)), kind, GenericAlias(dict, (str, Any))))
    for kind in _KINDS
}

_SIMPLE = r"^[\w.:@-]+$"

Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=_SIMPLE)]


class NotAdmitted(ValueError):
    """A message is not one that a client of ours, or another Celery application, sends to this lane."""


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
            **({} if self.installation is None else {"installation": self.installation}),
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


def admit(message: Any, lane: str) -> dict[str, Any]:
    """The message as Celery may see it. Raises NotAdmitted.

    message: what stood in the lane, as JSON is read: anything at all.
    """
    try:
        envelope = msgspec.convert(message, _Envelope)
    except (msgspec.ValidationError, TypeError) as error:
        raise NotAdmitted(_sentence(str(error))) from None
    headers, properties = envelope.headers, envelope.properties
    if headers.task not in ADMITTED[lane]:
        raise NotAdmitted(f"the task {headers.task} is not one of the lane {lane}")
    if properties.delivery_info.routing_key != lane:  # there it would be put back
        raise NotAdmitted("it was sent to another lane")
    if envelope.content_type != f"application/x-{SERIALIZER}":
        raise NotAdmitted(f"its content is of the type {envelope.content_type:.80}, and not {SERIALIZER}")
    if envelope.content_encoding != "binary":
        raise NotAdmitted(f"its content is encoded as {envelope.content_encoding:.80}, and not binary")
    _check_body(envelope.body, headers.task)
    return {**msgspec.to_builtins(envelope), "headers": headers.rewritten()}


def keywords_of(admitted: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that an admitted message has for its task."""
    keywords: dict[str, Any] = msgpack.unpackb(b64decode(admitted["body"]))[1]
    return keywords


def _check_body(body: str, task: str) -> None:
    """Raises NotAdmitted unless it is the arguments of a task, and nothing to do before or after it."""
    if len(body) > MAX_MESSAGE_BYTES * 4 / 3 + 4:
        raise NotAdmitted(f"it has {len(body):,} characters; at most {MAX_MESSAGE_BYTES:,} bytes are taken")
    try:
        packed = b64decode(body, validate=True)
        if len(packed) > LARGE:
            msgspec.msgpack.decode(packed, type=_CONTENTS[task])
        content = msgpack.unpackb(packed)
    except (binascii.Error, ValueError, msgpack.UnpackException, msgspec.MsgspecError) as error:
        raise NotAdmitted(f"its body is not base64 of {SERIALIZER}: {error or type(error).__name__}") from None
    if not (isinstance(content, list) and [type(part) for part in content] == [list, dict, dict]):
        raise NotAdmitted("its body is not a list of arguments, keyword arguments and options")
    arguments, keywords, options = content
    if arguments or not all(isinstance(name, str) for name in keywords):
        raise NotAdmitted("its arguments are not keyword arguments alone")
    if unknown := sorted(str(name) for name, value in options.items() if value):
        raise NotAdmitted(f"it asks for {', '.join(unknown)[:80]}, which is not done here")


def _sentence(error: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.headers.id`", with the place first."""
    reason, _, place = error.partition(" - at `$.")
    return f"{place.rstrip('`')}: {reason[:1].lower()}{reason[1:]}" if place else reason[:1].lower() + reason[1:]
