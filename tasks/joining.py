"""Look-ups that wait on the lane, taken along by the one that is answered: together they take a fraction of the time.

A look-up is asked for again by its caller, never by the broker, so a message may be taken off the lane without being
acknowledged. It must not know how a look-up is answered.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from twinvec_client.contract.broker import INSTALLATION, key_prefix
from twinvec_client.contract.limits import MAX_NEIGHBOURS
from twinvec_client.contract.messages import BadMessage, Nearest
from worker import installation
from worker.admission import NotAdmitted, admit, keywords_of
from worker.app import app
from worker.runtime import Runtime

log = logging.getLogger(__name__)

MOST = 32  # look-ups that are taken along
MOST_QUERIES = 64  # of all that are answered together
MOST_CHARS = 256 * 1024  # of a message: larger ones take their time by themselves


class Waiting(NamedTuple):
    """A look-up that was taken along, and the id that its answer is stored under."""

    id: str
    request: Nearest


def take_along(first: Nearest, runtime: Runtime) -> list[Waiting]:
    """The next look-ups of the lane, as far as they ask as this one does, for other queries.

    None where the broker has become another installation's since this one was taken.
    """
    taken: list[Waiting] = []
    lane, mine = key_prefix(runtime.settings.lane_prefix()) + Nearest.lane, installation.own(runtime.settings)
    room, broker = min(MOST_QUERIES, MAX_NEIGHBOURS // first.k) - len(first.queries), _broker()
    try:
        if installation.is_other(broker, runtime.settings):
            return []
        while room > 0 and len(taken) < MOST and (message := cast("bytes | None", broker.rpop(lane))):
            waiting = _read(message, mine)
            if waiting is None or not _alike(waiting.request, first) or len(waiting.request.queries) > room:
                broker.rpush(lane, message)  # where it stood: it is the next to be taken
                break
            taken.append(waiting)
            room -= len(waiting.request.queries)
    except RedisError as error:
        log.warning("could not take waiting look-ups along: %s", error)
    return taken


def answer(waiting: Waiting, reply: dict[str, Any], runtime: Runtime) -> None:
    """Answer one that was taken along."""
    mine = installation.own(runtime.settings)
    app.backend.store_result(waiting.id, reply if mine is None else {**reply, INSTALLATION: mine}, "SUCCESS")


def _broker() -> Redis:
    backend: Any = app.backend
    return cast("Redis", backend.client)  # the same server: answers lie where the lanes do


def _read(message: bytes, mine: str | None) -> Waiting | None:
    """None where it is anything else than a look-up that may be taken along. mine: this installation's id."""
    if len(message) > MOST_CHARS:
        return None
    try:
        admitted = admit(json.loads(message), Nearest.lane)
        headers = admitted["headers"]
        if headers["task"] != Nearest.task or headers["ignore_result"] or "redelivered" in headers or _late(headers):
            return None
        if None not in (mine, headers.get(INSTALLATION)) and headers[INSTALLATION] != mine:
            return None
        return Waiting(headers["id"], Nearest.read(keywords_of(admitted)))
    except (NotAdmitted, BadMessage, ValueError, RecursionError):
        return None


def _late(headers: dict[str, Any]) -> bool:
    """Whether nobody waits for the answer any more; Celery drops it, by the same question."""
    until = headers["expires"]
    if until is None:
        return False
    when = datetime.fromisoformat(until)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)) < datetime.now(UTC)


def _alike(one: Nearest, other: Nearest) -> bool:
    return msgspec.structs.replace(one, queries=[]) == msgspec.structs.replace(other, queries=[])
