"""Kombu's transports over Redis, with a check of every message before Celery sees it.

A message that is not admitted is set aside in a list of the broker, with the reason, and is never given back to a
lane: whatever it does to the process that takes it, it does once. What is admitted is `admission`'s affair. Nothing is
taken from another installation's lanes, nor put there: each new connection asks first whose they are.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import kombu.transport
from kombu.transport import redis as over_redis
from kombu.transport import virtual
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError, ResponseError

from twinvec_client.contract.broker import KEY_PREFIX, LANES
from twinvec_client.contract.messages import Intake
from worker import audience, installation, metrics, silence
from worker.admission import NotAdmitted, admit
from worker.settings import Settings
from worker.sharing import SharedCycle

log = logging.getLogger(__name__)

SET_ASIDE = "set-aside"  # the list's key, without the prefix
KEPT = 100  # messages in it
SHOWN = 1000  # characters of each that are kept
# Their callers ask again by themselves, and what ended one process would end the next.
DROPPED_WHERE_REPEATED = ("query", "express")
ALONE = "alone"  # the header, of ours alone, that says that none waited behind a message
MOMENT = 0.1  # seconds for which a short lane counts as short


class QoS(over_redis.QoS):
    """Which messages this process works on. The broker keeps a copy of each until it is acknowledged, to give it back
    to the lane if the process dies: not of those that would be dropped there, nor of chunks, which are large and which
    their senders send again until they have a receipt."""

    _delivered: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        if _has_copy(message):
            super().append(message, delivery_tag)
        else:
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        held = self._delivered.get(delivery_tag)
        if held is None or _has_copy(held):
            super().ack(delivery_tag)
        else:
            virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        held = self._delivered.get(tag)
        if held is None or _has_copy(held):
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        elif (lane := held.delivery_info["routing_key"]) not in DROPPED_WHERE_REPEATED:
            channel: Any = self.channel
            with channel.conn_or_acquire(client) as broker:
                channel._do_restore_message(held._raw, held.delivery_info["exchange"], lane, broker, leftmost=leftmost)


def _has_copy(message: Any) -> bool:
    """Whether the broker keeps a copy of a message that a worker has taken."""
    if message.delivery_info["routing_key"] in DROPPED_WHERE_REPEATED:
        return False
    return bool(message.headers.get("task") != Intake.task)


class Withheld:
    """How many messages this process has read that Celery never saw."""

    count = 0


_OPTIONS = ("owner_key", "backfill_share")


class _Checked:
    """Mixed into a channel: it delivers what is admitted, sets the rest aside, and mends a lane that is no list. Its
    lanes take turns by `SharedCycle`."""

    QoS: Any = QoS
    client: Any
    connection: Any
    conn_or_acquire: Any
    _in_poll: Any
    active_queues: Any
    global_keyprefix: Any
    priority_steps: Any
    _q_for_pri: Any
    pool: Any
    _delivering = False
    _few_until: dict[str, float]  # by lane, and by `time.monotonic()`
    _left = 0  # messages in a row that were left undone
    _queue_cycle: Any
    _sends: Any = None  # the client that messages are sent through
    _heeded = 0.0  # what of `silence.Noted.at`
    backfill_share = 0.125  # a transport option: of an embedding process's time
    owner_key: str | None = None  # a transport option: where the broker says whose its lanes are; None: nobody asks

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_cycle = SharedCycle(self.backfill_share)
        self._few_until = {}

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # of the channel
        if self.owner_key is not None:
            parameters["redis_connect_func"] = self._greet
        return parameters

    def _greet(self, connection: Any) -> None:
        """What is done with each new connection. Raises NoConnection where the lanes are another installation's."""
        connection.on_connect()
        connection.send_command("GET", self.owner_key)
        try:
            theirs = installation.read(connection.read_response())
        except ResponseError:  # the user may not
            return
        settings = Settings()
        mine = None if theirs is None else installation.own(settings)
        if theirs is not None and mine not in (None, theirs):
            raise NoConnection(str(installation.fault(theirs, mine or "", settings.lane_prefix())))

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        consumer: Any = super().basic_consume(queue, *args, **kwargs)  # type: ignore[misc]  # of the channel
        if queue in LANES:
            deliver = self.connection._callbacks[queue]

            def check(message: Any) -> None:
                self._delivering = True
                if (admitted := self._admitted(message, queue)) is not None:
                    deliver(admitted)
                else:
                    Withheld.count += 1

            self.connection._callbacks[queue] = check
        return consumer

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._heeded < silence.Noted.at:
            self._heeded = silence.Noted.at
            self.client.connection.disconnect()
            self.connection.cycle._register(self, self.client, "BRPOP")
        super()._brpop_start(timeout)  # type: ignore[misc]  # of the channel

    def _on_connection_disconnect(self, connection: Any) -> None:
        if self._in_poll is connection:  # it has not answered, or was lost
            silence.note()
            self._heeded = silence.Noted.at
        super()._on_connection_disconnect(connection)  # type: ignore[misc]  # of the channel

    def _brpop_read(self, **options: Any) -> Any:
        self._delivering = False
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # of the channel
        except ResponseError as error:
            if self._delivering or "WRONGTYPE" not in str(error):
                raise
            self._mend_lanes()
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError, UnicodeError) as error:
            if self._delivering:
                raise
            self._set_aside("?", "", f"it is not JSON: {error}")
        return True

    def _admitted(self, message: Any, lane: str) -> dict[str, Any] | None:
        try:
            admitted = admit(message, lane, self.global_keyprefix or KEY_PREFIX)
        except NotAdmitted as error:
            self._set_aside(lane, _written(message), str(error))
            return None
        if lane in DROPPED_WHERE_REPEATED and "redelivered" in admitted["headers"]:
            log.warning("dropped the message %s on %s: taken before, not answered", admitted["headers"]["id"], lane)
            return None
        waiting = self._waiting(lane)
        if waiting is not None and self._is_unheard(admitted["headers"], waiting):
            self._left += 1
            metrics.UNHEARD.labels(lane).inc()
            return None
        if self._left:
            log.warning("left %d messages undone: nobody waits for their answers any more", self._left)
            self._left = 0
        if waiting == 0:
            admitted["headers"][ALONE] = True
        return admitted

    def _waiting(self, lane: str) -> int | None:
        """How many messages wait on it; None where the broker is not asked, for few did a moment ago."""
        if time.monotonic() < self._few_until.get(lane, 0.0):
            return None
        try:
            waiting: int = self._create_client().llen(lane)
        except RedisError:  # the consumer will find out
            return None
        if waiting < audience.BACKLOG:
            self._few_until[lane] = time.monotonic() + MOMENT
        return waiting

    def _is_unheard(self, headers: dict[str, Any], waiting: int) -> bool:
        """Whether nobody waits for the answer any more, and others wait behind it."""
        if waiting < audience.BACKLOG:
            return False
        try:
            return bool(audience.unheard(self._create_client(), [headers], self.global_keyprefix))
        except RedisError:
            return False

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One for each pool of connections: to make one takes as long as to ask the broker, and kombu makes one for
        each message that it sends or acknowledges."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]  # of the channel
        if self._sends is None or self._sends.connection_pool is not self.pool:
            self._sends = super()._create_client()  # type: ignore[misc]  # of the channel
        return self._sends

    def _set_aside(self, lane: str, message: str, reason: str) -> None:
        metrics.SET_ASIDE.labels(lane if lane in LANES else "?").inc()
        log.warning("set a message on %s aside: %s", lane, json.dumps(reason[:SHOWN])[1:-1])
        entry = json.dumps({"at": time.time(), "lane": lane, "reason": reason[:SHOWN], "message": message})
        with self.conn_or_acquire() as client:
            if client.lpush(SET_ASIDE, entry) > KEPT:
                client.rpop(SET_ASIDE)

    def _mend_lanes(self) -> None:
        """Delete lanes that are not lists. They hold no message: a lane is made by the first that is sent."""
        prefix = self.global_keyprefix
        with self.conn_or_acquire() as client:
            for lane in self.active_queues:
                for name in (self._q_for_pri(lane, step) for step in self.priority_steps):
                    if client.type(f"{prefix}{name}") not in (b"list", b"none"):
                        log.error("the lane %s is not a list in the broker: it is deleted", json.dumps(name)[1:-1])
                        client.delete(name)


def _written(message: Any) -> str:
    """As much of it as is kept; nothing of what is nested too deeply to be written."""
    try:
        return json.dumps(message, default=repr)[:SHOWN]
    except RecursionError:
        return ""


class Channel(_Checked, over_redis.Channel):
    """Over one server."""

    from_transport_options = (*over_redis.Channel.from_transport_options, *_OPTIONS)


class Transport(over_redis.Transport):
    """Over one server."""

    Channel = Channel


class SentinelChannel(_Checked, over_redis.SentinelChannel):
    """Over the primary that Sentinels name."""

    from_transport_options = (*over_redis.SentinelChannel.from_transport_options, *_OPTIONS)


class SentinelTransport(over_redis.SentinelTransport):
    """Over the primary that Sentinels name."""

    Channel = SentinelChannel


def install() -> None:
    """Let every connection that this process opens from now on go through these transports, whatever its URL."""
    here = f"{__name__}:"
    names = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}
    for scheme, transport in names.items():
        kombu.transport.TRANSPORT_ALIASES[scheme] = here + transport
    vars(kombu.transport)["_transport_cache"].clear()
