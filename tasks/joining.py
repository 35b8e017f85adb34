"""Messages that wait on a lane, taken along by the one that is answered: together they take a fraction of the time.

They are of those that a caller sends again, never the broker, so they may be taken off the lane without being
acknowledged. It must not know how they are answered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar, cast

from celery import current_task
from redis import Redis
from redis.exceptions import RedisError

from tasks.broker import connected
from twinvec_client.contract.broker import INSTALLATION, key_prefix
from twinvec_client.contract.messages import BadMessage, Message
from worker import audience, installation
from worker.admission import NotAdmitted, admit, keywords_of
from worker.app import app
from worker.runtime import Runtime
from worker.transport import ALONE

log = logging.getLogger(__name__)

MOST = 32  # messages that are taken along
MOST_CHARS = 256 * 1024  # of a message: larger ones take their time by themselves

M = TypeVar("M", bound=Message)


class Waiting(NamedTuple, Generic[M]):
    """A message that was taken along, its headers, and the id that its answer is stored under."""

    id: str
    request: M
    headers: dict[str, Any]
    message: bytes  # as it stood on the lane


def take_along(kind: type[M], fits: Callable[[M], bool], runtime: Runtime) -> list[Waiting[M]]:
    """The next messages of a kind on its lane, as far as they fit. Those that nobody waits for any more stay there, and
    are left undone when they are read.

    None where none waited behind the one that takes them along, or the broker has become another installation's since.
    """
    if current_task and current_task.request.get(ALONE):
        return []
    keys, mine = key_prefix(runtime.settings.lane_prefix()), installation.own(runtime.settings)
    lane = keys + kind.lane
    broker = connected()
    taken: list[Waiting[M]] = []
    try:
        messages = _pop(broker, lane, keys + installation.KEY, mine)
        for message in messages:
            waiting = _read(message, kind, mine)
            if waiting is None or not fits(waiting.request):
                break
            taken.append(waiting)
        if left := messages[len(taken) :]:
            broker.rpush(lane, *reversed(left))  # where they stood: they are the next to be taken
        if unheard := audience.unheard(broker, (each.headers for each in taken), keys):
            broker.rpush(lane, *(each.message for each in reversed(taken) if each.id in unheard))
            taken = [each for each in taken if each.id not in unheard]
    except RedisError as error:
        log.warning("could not take waiting messages along: %s", error)
    return taken


def answer(answered: Sequence[tuple[Waiting[Any], dict[str, Any]]], runtime: Runtime) -> None:
    """Answer those that were taken along."""
    if answered:
        mine = installation.own(runtime.settings)
        said = {} if mine is None else {INSTALLATION: mine}
        backend: Any = app.backend
        backend.store_together([(waiting.id, reply | said) for waiting, reply in answered])


def _pop(broker: Redis, lane: str, owner: str, mine: str | None) -> list[bytes]:
    """The next messages of a lane; none where it is another installation's."""
    with broker.pipeline(transaction=False) as pipe:
        pipe.get(owner)
        pipe.llen(lane)
        said, waiting = pipe.execute(raise_on_error=False)  # for the user may not ask for the first
    theirs = installation.read(said)
    if isinstance(waiting, RedisError):
        raise waiting
    if not waiting or (theirs is not None and mine not in (None, theirs)):
        return []
    return cast("list[bytes]", broker.rpop(lane, min(waiting, MOST)) or [])


def _read(message: bytes, kind: type[M], mine: str | None) -> Waiting[M] | None:
    """None where it is anything else than a message that may be taken along. mine: this installation's id."""
    if len(message) > MOST_CHARS:
        return None
    try:
        admitted = admit(json.loads(message), kind.lane)
        headers = admitted["headers"]
        if headers["task"] != kind.task or headers["ignore_result"] or "redelivered" in headers or _late(headers):
            return None
        if None not in (mine, headers.get(INSTALLATION)) and headers[INSTALLATION] != mine:
            return None
        return Waiting(headers["id"], kind.read(keywords_of(admitted)), headers, message)
    except (NotAdmitted, BadMessage, ValueError, RecursionError):
        return None


def _late(headers: dict[str, Any]) -> bool:
    """Whether nobody waits for the answer any more; Celery drops it, by the same question."""
    until = headers["expires"]
    if until is None:
        return False
    when = datetime.fromisoformat(until)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)) < datetime.now(UTC)
