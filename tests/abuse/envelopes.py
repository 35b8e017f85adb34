"""Messages as Celery writes them for Redis, and how they can be spoilt. It must not know what refuses them."""

import base64
import json
import random
import uuid
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgpack

OPTIONS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

ODD: list[Any] = [
    None, True, False, 0, -1, 2**70, 1.5, "", "x", "\0", "\x1b[2J\n", "é" * 300, [], [1], [[]], {}, {"x": 1}, {"a": {}},
    [None], "celery.chord_unlock", "celery.map", "embed", "2099-01-01T00:00:00", "1; 2", [5, 5], ["a", "b", "c"],
    {"__type__": "decimal", "__value__": "x"}, {"__type__": "datetime", "__value__": "no"},
]  # fmt: skip


def body(arguments: Any = (), keywords: Any = None, options: Any = None) -> str:
    """Arguments of a task as the wire has them."""
    content = [list(arguments), {} if keywords is None else keywords, OPTIONS if options is None else options]
    return base64.b64encode(msgpack.packb(content)).decode()


def envelope(task: str, lane: str, keywords: dict[str, Any] | None = None) -> dict[str, Any]:
    """A whole message, as an honest sender writes it."""
    id = str(uuid.uuid4())
    headers: dict[str, Any] = {
        "lang": "py", "task": task, "id": id, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": id, "parent_id": None,
        "argsrepr": "()", "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": True,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    properties = {
        "correlation_id": id, "reply_to": str(uuid.uuid4()), "delivery_mode": 2, "priority": 0,
        "delivery_info": {"exchange": "", "routing_key": lane}, "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }  # fmt: skip
    return {
        "body": body(keywords=keywords),
        "content-encoding": "binary",
        "content-type": "application/x-msgpack",
        "headers": headers,
        "properties": properties,
    }


def spoil(message: dict[str, Any], dice: random.Random) -> bytes:
    """The message with one to three faults, as it would stand in a lane."""
    spoilt: Any = json.loads(json.dumps(message))
    for _ in range(dice.randint(1, 3)):
        dice.choice(FAULTS)(spoilt, dice)
    written = json.dumps(spoilt).encode()
    if dice.random() < 0.15:
        at = dice.randrange(len(written))
        written = dice.choice([written[:at], written[:at] + dice.randbytes(3) + written[at:], dice.randbytes(at)])
    return written


def _replace(message: Any, dice: random.Random) -> None:
    place = _some_place(message, dice)
    place[dice.choice(list(place) or ["x"])] = deepcopy(dice.choice(ODD))  # it may be spoilt next


def _remove(message: Any, dice: random.Random) -> None:
    place = _some_place(message, dice)
    if place:
        del place[dice.choice(list(place))]


def _add(message: Any, dice: random.Random) -> None:
    name = dice.choice(
        ["compression", "callbacks", "chord", "chain", "task", "args", "kwargs", "retries", "redelivered"]
    )
    _some_place(message, dice)[name] = deepcopy(dice.choice([*ODD, "gzip", "bzip2", "zstd"]))


def _other_body(message: Any, dice: random.Random) -> None:
    message["body"] = dice.choice(
        [
            body([1]),
            body(keywords={"limit": "x"}),
            body(options={"callbacks": [{"task": "twinvec.sweep"}]}),
            body(options={"chord": {"task": "x"}}),
            body(options={"chain": [1]}),
            base64.b64encode(msgpack.packb(dice.choice(ODD[:5]))).decode(),
            base64.b64encode(msgpack.packb([[], {}])).decode(),
            base64.b64encode(msgpack.packb([{}, [], {}, {}])).decode(),
            base64.b64encode(b"\x91" * 5000).decode(),
            base64.b64encode(dice.randbytes(40)).decode(),
            base64.b64encode(b"[[], {}, {}]").decode(),
            "no base64",
        ]
    )


def _some_place(message: Any, dice: random.Random) -> dict[Any, Any]:
    places = [message, message.get("headers"), message.get("properties")]
    return dice.choice([place for place in places if isinstance(place, dict)])


FAULTS: list[Callable[[Any, random.Random], None]] = [_replace, _replace, _remove, _add, _other_body]


def plain_envelope(
    task: str, lane: str, keywords: Any = None, *, arguments: Any = (), options: Any = None
) -> dict[str, Any]:
    """A message in plain JSON, as an application without our package or a prefix writes it."""
    message = envelope(task, f"twinvec:{lane}")
    content = [list(arguments), {} if keywords is None else keywords, OPTIONS if options is None else options]
    message["body"] = base64.b64encode(json.dumps(content).encode()).decode()
    message["headers"]["ignore_result"] = False
    return message | {"content-type": "application/json", "content-encoding": "utf-8"}
