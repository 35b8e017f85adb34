"""What may come after a request in plain JSON: the signatures of Celery's chains, groups and chords.

They are the sender's own tasks, on the sender's own queues, or more requests in plain JSON. It must not know what
sends them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twinvec_client.contract.plain import REQUESTS

MOST = 1000  # signatures
DEEPEST = 16  # of signatures in each other

_Word = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]*$")]
_CANVASES = {"group": "celery.group", "chain": "celery.chain", "chord": "celery.chord"}


class NotContinued(ValueError):
    """What comes after a request is nothing that a worker sends."""


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    queue: _Word | None = None
    task_id: _Word | None = None
    reply_to: _Word | None = None
    root_id: _Word | None = None
    parent_id: _Word | None = None
    group_id: _Word | None = None
    group_index: int | None = None
    ignore_result: bool | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    serializer: Literal["json"] | None = None
    link: Any = None
    link_error: Any = None
    chord: Any = None
    chain: Any = None


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task: _Word
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: _Options = _Options()
    subtask_type: Literal["group", "chain", "chord"] | None = None
    immutable: bool = False
    chord_size: Annotated[int, Meta(ge=0, lt=2**31)] | None = None


def check(signatures: Iterable[Any], keys: str) -> None:
    """Raise NotContinued unless they are signatures of tasks that a worker may send, and nothing else.

    keys: what the installation's own keys begin with.
    """
    queues = {keys + request.lane for request in REQUESTS}
    waiting = [(signature, 1) for signature in signatures]
    for count in range(MOST + 1):
        if not waiting:
            return
        if count == MOST:
            raise NotContinued(f"more than {MOST:,} tasks")
        given, depth = waiting.pop()
        if depth > DEEPEST:
            raise NotContinued(f"more than {DEEPEST} signatures in each other")
        waiting += [(part, depth + 1) for part in _parts(_read(given), keys, queues)]


def _read(given: Any) -> _Signature:
    try:
        return msgspec.convert(given, _Signature)
    except (msgspec.ValidationError, RecursionError) as error:
        raise NotContinued(f"a signature is not one: {error}") from None


def _parts(signature: _Signature, keys: str, queues: set[str]) -> list[Any]:
    """The signatures in it."""
    kind, queue = signature.subtask_type, signature.options.queue
    if queue is not None and queue.startswith(keys) and queue not in queues:
        raise NotContinued(f"the queue {queue} is not an application's")
    options = signature.options
    parts = [*_list(options.link), *_list(options.link_error), *_list(options.chord), *_list(options.chain)]
    if kind is None:
        if signature.task.startswith("celery."):
            raise NotContinued(f"{signature.task} is Celery's own")
        return parts
    if signature.task != _CANVASES[kind]:
        raise NotContinued(f"{signature.task} is not a {kind}")
    inner = signature.kwargs
    if unknown := inner.keys() - ({"header", "body", "kwargs"} if kind == "chord" else {"tasks"}):
        raise NotContinued(f"a {kind} has no {', '.join(sorted(unknown))[:80]}")
    return [*parts, *_list(inner.get("tasks")), *_list(inner.get("header")), *_list(inner.get("body"))]


def _list(given: Any) -> list[Any]:
    return [] if given is None else given if isinstance(given, list) else [given]
