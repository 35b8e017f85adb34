"""The way to the workers and back: send a message, wait for its answer. Knows the broker, and no message by name."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import celery.exceptions
import kombu.exceptions
import redis.exceptions
from celery import Celery

from twinvec_client.contract.broker import KEY_PREFIX, SERIALIZER, safe_url
from twinvec_client.contract.messages import Message
from twinvec_client.errors import BrokerUnavailable, InvalidRequest, NoAnswer, revive

_DOWN = (
    kombu.exceptions.OperationalError,
    redis.exceptions.RedisError,
    RuntimeError,  # how Celery's result backend says that it gave up
)
_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}  # with a broker


class Connection:
    """To one broker; nothing is connected before the first message.

    broker_url: `redis://` or `rediss://`. answer_timeout: seconds to wait for an answer. Raises InvalidRequest on a
    URL that cannot be read.
    """

    def __init__(self, broker_url: str, answer_timeout: float = 30.0) -> None:
        self.answer_timeout = answer_timeout
        try:
            broker_url = safe_url(broker_url)
        except ValueError as error:
            raise InvalidRequest(f"broker_url: {error}") from None
        self._app = Celery("twinvec-client", broker=broker_url, backend=broker_url, set_as_current=False)
        transport = {
            "global_keyprefix": KEY_PREFIX,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "visibility_timeout": 600,
            **_RETRY_POLICY,
        }
        self._app.conf.update(
            task_serializer=SERIALIZER,
            result_serializer=SERIALIZER,
            accept_content=[SERIALIZER],
            broker_transport_options=transport,
            result_backend_transport_options={
                "global_keyprefix": KEY_PREFIX,
                "retry_policy": _RETRY_POLICY,
            },
            redis_socket_connect_timeout=3,
            redis_socket_timeout=10,
            task_publish_retry=False,
        )

    def ask(self, message: Message, *, timeout: float | None = None) -> dict[str, Any]:
        """Send a message and wait for its answer, `timeout` seconds or the connection's own.

        Raises what the worker refused it with, BrokerUnavailable, NoAnswer.
        """
        seconds = self.answer_timeout if timeout is None else timeout
        result = None
        try:
            result = self._app.send_task(message.task, kwargs=message.write(), queue=message.lane)
            answer = result.get(timeout=seconds, interval=0.005, propagate=False)
        except celery.exceptions.TimeoutError:
            raise NoAnswer(
                f"no worker answered on the lane `{message.lane}` within {seconds:g} s: is one running on this broker?"
            ) from None
        except _DOWN as error:
            raise self._broker_down(error) from error
        finally:
            if result is not None:
                _discard(result)
        if not isinstance(answer, dict):  # an exception: it ended the worker's process
            raise NoAnswer(f"no worker answered on the lane `{message.lane}`: {answer}")
        if "error" in answer:
            raise revive(answer["error"], answer["message"])
        return answer

    def send(self, message: Message) -> str:
        """Send a message that is not answered; its id. Raises BrokerUnavailable."""
        id = str(uuid.uuid4())
        try:
            self._app.send_task(
                message.task, kwargs=message.write(), queue=message.lane, task_id=id, ignore_result=True
            )
        except _DOWN as error:
            raise self._broker_down(error) from error
        return id

    def failure_of(self, id: str) -> str | None:
        """The error that the message `id` has failed with in the last minute, in a line; None where none is known."""
        found = None
        with suppress(*_DOWN):
            found = self._app.backend.get_task_meta(id)
        if found is None or found["status"] != "FAILURE":
            return None
        return next(iter(str(found["result"]).strip().splitlines()), None)

    def _broker_down(self, error: Exception) -> BrokerUnavailable:
        url = self._app.connection_for_write().as_uri()  # the password is masked
        cause = error.__cause__ or error.__context__ or error
        said = str(cause).strip().rstrip(".")
        if any(isinstance(each, redis.exceptions.OutOfMemoryError) for each in (error, cause)):
            return BrokerUnavailable(f"the broker at {url} is full: {said}")
        return BrokerUnavailable(f"no broker at {url}: {said}")


def _discard(result: Any) -> None:
    """Forget an answer that came or never will; left to the garbage collector, it complains on a lost connection."""
    with suppress(Exception):
        result.backend.remove_pending_result(result)
    result.backend = None
