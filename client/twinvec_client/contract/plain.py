"""What any Celery program may send in plain JSON, without this package: bytes are base64, fields have defaults.

Each request becomes one of the messages of `messages`, whose limits hold. It must not know who is answered, or how.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import uuid
from base64 import b64decode, b64encode
from functools import cache
from typing import Annotated, Any, ClassVar, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from twinvec_client.contract import answers
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.limits import (
    MAX_ATTRIBUTES_BYTES,
    MAX_CHUNK_ITEMS,
    MAX_K,
    MAX_NAME_CHARS,
    MAX_PRIORITY,
    MAX_QUERIES,
)
from twinvec_client.contract.messages import (
    ENCODED,
    MESSAGES,
    REFUSED,
    Annotate,
    BadMessage,
    Callback,
    Cancel,
    Collection,
    Cursor,
    Delete,
    Distance,
    DoubtfulOf,
    FailuresOf,
    Filter,
    FindDuplicates,
    FindSuspects,
    Fingerprint,
    GetDigits,
    GetVectors,
    Intake,
    Judge,
    Key,
    Label,
    ListActions,
    ListCollections,
    ListDead,
    ListDigits,
    ListJobs,
    ListJudgements,
    ListTowers,
    ListVectors,
    Message,
    Nearest,
    ShowBackfill,
    ShowOverview,
    ShowSchedule,
    StatusOf,
    Vector,
    VectorsOfJob,
    sentence,
)
from twinvec_client.contract.packing import pack

QUEUES = tuple(f"{KEY_PREFIX}{lane}" for lane in ("intake", "query", "control"))  # that plain JSON is taken from

MOST_VALUES = 500_000  # of a message: numbers, texts, lists and objects, and commas in texts

_IDS = uuid.UUID("b7f7a1de-3f5e-5c0e-8d0b-6a4b5a9d2c44")  # the namespace of the callers' own ids
_DEFAULTS: dict[str, Any] = {"limit": 100, "jobs": 10, "count": 0, "every": 1}  # of fields that a client always sends
_FIRST: dict[
    type[Message], str
] = {  # the field that a positional argument is taken for: in a chain, what the task before has returned
    StatusOf: "job",
    Cancel: "job",
    FailuresOf: "job",
    DoubtfulOf: "job",
    GetDigits: "keys",
    GetVectors: "keys",
    VectorsOfJob: "job",
    Delete: "keys",
}


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request in plain JSON has besides its fields.

    first: the field that one positional argument stands for; None where none is taken.
    """

    task: ClassVar[str]
    lane: ClassVar[str]
    kind: ClassVar[type[Message]]
    answer: ClassVar[type]
    first: ClassVar[str | None] = None
    refusals: ClassVar[tuple[str, ...]] = ()

    def message(self, id: str) -> Message:
        """The message that asks for the same. id: of the Celery message that brought this. Raises BadMessage."""
        return self.kind.read(self.fields())

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        if (extra := fields.get("attributes")) is not None:
            fields["attributes"] = _text(extra) if isinstance(extra, dict) else [each and _text(each) for each in extra]
        return fields


class Picture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture to embed. picture: a file's bytes, as base64; what cannot be read costs itself alone."""

    key: Key
    picture: str
    label: Label | None = None
    attributes: dict[str, Any] | None = None


class Embed(Request, frozen=True, kw_only=True):
    """Store pictures and embed them, as one job. It is answered when all of them stand in SQL.

    id: the sender's own for these pictures: sent again with the same ones it is the same job of the collection, and
    with others it is refused; null for the id of the Celery message. on_finish: a task that is called with the job's
    status when the last picture is accounted for. priority: of twice the priority it is embedded twice as fast. resent:
    say so where it may have been sent before and was not answered: the pictures are then decoded where they can harm
    nothing.
    """

    task = "twinvec.embed"
    lane = Intake.lane
    kind = Intake
    answer = answers.JobStatus
    first = "pictures"
    refusals = ("IdempotencyConflict",)

    pictures: Annotated[list[Picture], Meta(min_length=1, max_length=MAX_CHUNK_ITEMS)] | UnsetType = UNSET
    id: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)] | None = None
    collection: Collection = "default"
    normalise: bool = True
    on_finish: Callback | None = None
    priority: Annotated[int, Meta(ge=1, le=MAX_PRIORITY)] = 1
    resent: bool = False

    def message(self, id: str) -> Message:
        assert self.pictures is not UNSET
        files, types, refused = [], bytearray(), []
        digest = hashlib.blake2b(digest_size=16)
        for each in self.pictures:
            try:
                files.append(b64decode(each.picture, validate=True))
                types.append(ENCODED)
            except (binascii.Error, ValueError) as error:
                refused.append(("bad_picture", f"not base64: {error}"))
                types.append(REFUSED)
            row = json.dumps([each.key, each.picture, each.label, each.attributes], sort_keys=True).encode()
            digest.update(len(row).to_bytes(8, "big") + row)
        extra = [None if each.attributes is None else _text(each.attributes) for each in self.pictures]
        whole = digest.digest()
        fields = {
            "job": str(uuid.uuid5(_IDS, f"{self.collection}\0{self.id or id}")),
            "seq": 0,
            "collection": self.collection,
            "keys": [each.key for each in self.pictures],
            "item_types": bytes(types),
            "glyphs": pack(b""),
            "encoded": files,
            "refused": refused,
            "labels": [each.label for each in self.pictures],
            "attributes": extra if any(extra) else None,
            "normalise": self.normalise,
            "callback": None if self.on_finish is None else self.on_finish.write(),
            "priority": self.priority,
            "resent": self.resent,
            "digest": whole,
            "total": len(self.pictures),
            "first": whole,
        }
        return Intake.read(fields)


class PlainQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of a picture (a file's bytes, as base64), a stored digit's key and a vector. The rest is as of `Query`."""

    picture: bytes | None = None
    key: Key | None = None
    collection: Filter | None = None
    vector: Vector | None = None
    tower: Fingerprint | None = None
    after: Cursor | None = None


class PlainNearest(Request, frozen=True, kw_only=True):
    """Look up the nearest stored digits of each query. The fields are those of `twinvec.nearest` above."""

    task = Nearest.task
    lane = Nearest.lane
    kind = Nearest
    answer = answers.Answers
    first = "queries"
    refusals = Nearest.refusals

    queries: Annotated[list[PlainQuery], Meta(min_length=1, max_length=MAX_QUERIES)] | UnsetType = UNSET
    k: Annotated[int, Meta(ge=1, le=MAX_K)] = 5
    collection: Filter | None = None
    label: Label | None = None
    attributes: dict[str, Any] | None = None
    max_distance: Distance | None = None
    match: bool = False
    pictures: bool = False
    normalise: bool = True

    def fields(self) -> dict[str, Any]:
        fields = super().fields()
        for query in fields["queries"]:
            query["encoded"] = query.pop("picture")
        return fields


def _request(kind: type[Message]) -> type[Request]:
    """The plain form of a message: its fields, with a default wherever one says nothing."""
    names: list[Any] = []
    first = _FIRST.get(kind)
    for field in msgspec.structs.fields(kind):
        of, default = _objects(field.type) if field.name == "attributes" else field.type, _default(field)
        if kind is Delete and field.name == "keys":
            default = msgspec.NODEFAULT  # null is all of the collection, and must be said
        if field.name == first and default is msgspec.NODEFAULT:
            names.append((field.name, of | UnsetType, UNSET))
        else:
            names.append((field.name, of) if default is msgspec.NODEFAULT else (field.name, of, default))
    assert kind.answer is not None
    own = {
        "task": kind.task,
        "lane": kind.lane,
        "kind": kind,
        "answer": kind.answer,
        "first": first,
        "refusals": kind.refusals,
        "__doc__": f"As `{kind.task}` above.",
    }
    plain: type[Request] = msgspec.defstruct(  # type: ignore[assignment]  # of a base that is given
        f"Plain{kind.__name__}", names, bases=(Request,), namespace=own, frozen=True, kw_only=True,
        forbid_unknown_fields=True,
    )  # fmt: skip
    return plain


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.name in _DEFAULTS:
        return _DEFAULTS[field.name]
    if field.name == "after":
        return 0 if int in _bare(field.type) else ""
    if type(None) in _bare(field.type):
        return None
    return False if field.type is bool else msgspec.NODEFAULT


def _bare(of: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type, without their limits."""
    members = get_args(of) if type(None) in get_args(of) else (of,)
    return tuple(get_args(each)[0] if hasattr(each, "__metadata__") else each for each in members)


def _objects(of: Any) -> Any:
    """Of attributes: JSON objects instead of their text."""
    return list[dict[str, Any] | None] | None if list in map(_origin, get_args(of)) else dict[str, Any] | None


def _origin(of: Any) -> Any:
    return getattr(of, "__origin__", None)


_AS_THEY_ARE: tuple[type[Message], ...] = (
    FindSuspects,
    FindDuplicates,
    ListVectors,
    GetVectors,
    VectorsOfJob,
    ListDigits,
    GetDigits,
    ListCollections,
    Annotate,
    Delete,
    Judge,
    ListJudgements,
    StatusOf,
    ListJobs,
    ShowOverview,
    FailuresOf,
    DoubtfulOf,
    Cancel,
    ListDead,
    ListTowers,
    ShowSchedule,
    ShowBackfill,
    ListActions,
)
REQUESTS: tuple[type[Request], ...] = (Embed, PlainNearest, *map(_request, _AS_THEY_ARE))
_BY_NAME = {(request.lane, request.task): request for request in REQUESTS}
ASKED = {(request.lane, request.kind.task) for request in REQUESTS}  # lane and task of what they become
KINDS = {kind.task: kind for kind in MESSAGES}


def request_of(lane: str, task: str) -> type[Request] | None:
    """What a task's name means on a lane; None where it is nothing that is taken in plain JSON."""
    return _BY_NAME.get((lane, task))


def read(kind: type[Request], positional: bytes | None, keywords: bytes) -> Request:
    """A request of the JSON of its keyword arguments, and of a positional one. Raises BadMessage."""
    for text in (positional or b"", keywords):  # before it is read: small values take many times their bytes
        if sum(map(text.count, (b",", b"{", b"["))) > MOST_VALUES:
            raise BadMessage(f"{kind.task}: more than {MOST_VALUES:,} values in one message")
    try:
        request: Request = msgspec.json.decode(keywords, type=kind)
        if positional is not None:
            if kind.first is None:
                raise BadMessage(f"{kind.task} takes no positional argument: in a chain, make it immutable (`.si`)")
            if getattr(request, kind.first) not in (UNSET, None):
                raise BadMessage(
                    f"{kind.task} was given `{kind.first}` twice, by position and by name: in a chain, make it "
                    f"immutable (`.si`)"
                )
            value = msgspec.json.decode(positional, type=_type_of(kind, kind.first))
            request = msgspec.structs.replace(request, **{kind.first: value})
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise BadMessage(f"{kind.task}: {sentence(str(error))}") from None
    if kind.first is not None and getattr(request, kind.first) is UNSET:
        raise BadMessage(f"{kind.task}: `{kind.first}` is missing")
    return request


@cache
def _type_of(kind: type[Request], name: str) -> Any:
    (field,) = (field for field in msgspec.structs.fields(kind) if field.name == name)
    return field.type


def write(answer: Any) -> Any:
    """An answer as JSON has it: bytes as base64, attributes as objects."""
    if isinstance(answer, dict):
        return {
            name: json.loads(value) if name == "attributes" and isinstance(value, str) else write(value)
            for name, value in answer.items()
        }
    if isinstance(answer, list | tuple):
        return [write(each) for each in answer]
    return b64encode(answer).decode() if isinstance(answer, bytes) else answer


def _text(attributes: dict[str, Any]) -> str:
    """Raises BadMessage where they are too long."""
    text = json.dumps(attributes, ensure_ascii=False)
    if len(text.encode(errors="replace")) > MAX_ATTRIBUTES_BYTES:
        raise BadMessage(f"attributes of more than {MAX_ATTRIBUTES_BYTES:,} bytes")
    return text
