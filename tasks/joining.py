"""Messages that wait on a lane, taken along by the one that is answered: together they take a fraction of the time.

They are of those that a caller sends again, never the broker, so they may be taken off the lane without being
acknowledged. It must not know how they are answered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar, cast

from redis.exceptions import RedisError

from tasks.broker import connected
from twinvec_client.contract.broker import INSTALLATION, key_prefix
from twinvec_client.contract.messages import BadMessage, Message
from worker import audience, installation
from worker.admission import NotAdmitted, admit, keywords_of
from worker.app import app
from worker.runtime import Runtime

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

    None where the broker has become another installation's since the one was taken that takes them along.
    """
    taken: list[Waiting[M]] = []
    keys, mine = key_prefix(runtime.settings.lane_prefix()), installation.own(runtime.settings)
    lane = keys + kind.lane
    broker = connected()
    try:
        if installation.is_other(broker, runtime.settings):
            return []
        while len(taken) < MOST and (message := cast("bytes | None", broker.rpop(lane))):
            waiting = _read(message, kind, mine)
            if waiting is None or not fits(waiting.request):
                broker.rpush(lane, message)  # where it stood: it is the next to be taken
                break
            taken.append(waiting)
        if unheard := audience.unheard(broker, (each.headers for each in taken), keys):
            broker.rpush(lane, *(each.message for each in reversed(taken) if each.id in unheard))
            taken = [each for each in taken if each.id not in unheard]
    except RedisError as error:
        log.warning("could not take waiting messages along: %s", error)
    return taken


def answer(waiting: Waiting[Any], reply: dict[str, Any], runtime: Runtime) -> None:
    """Answer one that was taken along."""
    mine = installation.own(runtime.settings)
    app.backend.store_result(waiting.id, reply if mine is None else {**reply, INSTALLATION: mine}, "SUCCESS")


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
