"""One thread's way to the broker and back: a message goes out with the subscription to its answer, in one journey.

Celery's own way takes two connections and, for each message, a subscription, its end, and a second look. It must not
know messages or lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as Lost

INTERVAL = 1.0  # seconds between two calls of `on_interval`
REOPENINGS = (0.1, 0.3, 0.5)  # seconds before each, where the connection is lost while an answer is waited for


class Wire:
    """Of one thread. backend: Celery's for it, which knows the broker, and how answers are written."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._connection: Any = None
        self._channel: Any = None  # of the last answer, which the broker may still be told not to send

    def ask(
        self,
        id: str,
        lane: str,
        text: str,
        *,
        seconds: float,
        again: bool,
        on_interval: Callable[[], None] | None,
    ) -> dict[str, Any] | None:
        """Put a message on its lane and wait for its answer: what a worker stored of it, None where it stored nothing
        in time. again: whether the message was sent before, and may have been answered already.

        A connection that is lost while it waits is opened anew. Raises redis's RedisError, OSError, and what
        `on_interval` raises.
        """
        until = time.monotonic() + seconds
        try:
            found = self._send(id, lane, text, look=again)
            while found is None and (left := until - time.monotonic()) > 0:
                try:
                    if self._opened().can_read(timeout=min(left, INTERVAL)):
                        found = self._answer(self._read())
                    elif on_interval is not None:
                        on_interval()
                except Lost:
                    found = self._reopen(until)
        except BaseException:
            self._drop()
            raise
        if found is None:  # it may have fallen silent; and the broker must not think that anybody still waits
            self._drop()
            return None
        answer: dict[str, Any] = self._backend.decode_result(found)
        return answer

    def post(self, lane: str, text: str) -> None:
        """Put a message that is not answered on its lane. Raises redis's RedisError."""
        self._backend.client.lpush(lane, text)

    def _send(self, id: str, lane: str, text: str, *, look: bool) -> bytes | None:
        """Subscribe, and put the message on its lane; an answer that was there already, where it is looked for."""
        if self._connection is not None:
            self._freshen()
        left, self._channel = self._channel, self._backend.get_key_for_task(id)
        commands = [("SUBSCRIBE", self._channel)]
        if left is not None:
            commands.insert(0, ("UNSUBSCRIBE", left))
        if self._takes_commands():
            found = self._run(commands, [("GET", self._channel)] * look + [("LPUSH", lane, text)])
        else:
            self._run(commands, [])
            found = [self._backend.client.get(self._channel)] if look else []
            self.post(lane, text)
        return next((each for each in found if isinstance(each, bytes)), None)

    def _run(self, subscriptions: list[Any], commands: list[Any]) -> list[Any]:
        """Send all of them together; what the commands were replied, and then an answer that came meanwhile.

        All is read, so that nothing of it is taken for what a later message was replied.
        """
        connection = self._opened()
        connection.send_packed_command(connection.pack_commands([*subscriptions, *commands]))
        confirmed, found, answers = 0, list[Any](), list[bytes]()
        while confirmed < len(subscriptions) or len(found) < len(commands):
            reply = self._read()
            if not isinstance(reply, list):
                found.append(reply)
            elif reply[0] in (b"subscribe", b"unsubscribe"):
                confirmed += 1
            elif (answer := self._answer(reply)) is not None:
                answers.append(answer)
        return found + answers

    def _answer(self, reply: Any) -> bytes | None:
        """The answer that is waited for, where this is one."""
        if isinstance(reply, list) and reply[0] == b"message" and reply[1] == self._channel:
            answer: bytes = reply[2]
            return answer
        return None

    def _reopen(self, until: float) -> bytes | None:
        """Listen over a new connection; the answer, where it came meanwhile. Raises redis's ConnectionError."""
        for pause in REOPENINGS:
            self._drop(keep_channel=True)
            time.sleep(max(0.0, min(pause, until - time.monotonic())))
            try:
                self._run([("SUBSCRIBE", self._channel)], [])
                found: bytes | None = self._backend.client.get(self._channel)
            except Lost as error:
                lost = error
            else:
                return found
        raise lost

    def _freshen(self) -> None:
        """Read what came since the last answer; where the broker has closed the connection, open it anew."""
        try:
            while self._opened().can_read():
                self._read()
        except (Lost, OSError):
            self._drop()

    def _takes_commands(self) -> bool:
        """Whether a connection that has subscribed takes any command, as it does by Redis's third protocol."""
        return str(self._opened().get_protocol()) == "3"

    def _opened(self) -> Any:
        if self._connection is None:
            self._connection = self._backend.client.connection_pool.get_connection()
        return self._connection

    def _read(self) -> Any:
        return self._opened().read_response(push_request=True)

    def close(self) -> None:
        """With all connections to the broker that the thread has."""
        self._backend.client.connection_pool.disconnect()

    def _drop(self, *, keep_channel: bool = False) -> None:
        connection, self._connection = self._connection, None
        if not keep_channel:
            self._channel = None
        if connection is not None:
            connection.disconnect()
            self._backend.client.connection_pool.release(connection)
