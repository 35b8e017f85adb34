"""The way to the workers and back: send a message, wait for its answer. Knows the broker, and no message by name."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, TypeVar

import kombu.exceptions
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from twinvec_client import forking  # noqa: F401  # what it does, it does when it is imported
from twinvec_client.contract.application import ExplicitApplication
from twinvec_client.contract.broker import (
    INSTALLATION,
    PREFIX,
    SERIALIZER,
    SUBSCRIBED,
    Socket,
    keepalive,
    key_prefix,
    safe_broker_url,
    transport,
)
from twinvec_client.contract.messages import Message
from twinvec_client.envelope import envelope
from twinvec_client.errors import BrokerUnavailable, InvalidRequest, NoAnswer, revive
from twinvec_client.notices import Follower, Notices
from twinvec_client.wire import Wire

T = TypeVar("T")

_DOWN = (
    kombu.exceptions.OperationalError,
    redis.exceptions.RedisError,
    RuntimeError,  # how Celery's result backend says that it gave up
)
IDLE_LIMIT = 30.0  # seconds; networks forget connections that were idle for longer
SOCKET_TIMEOUT = 5.0  # seconds for the broker to answer
_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}  # with a broker


class Connection:
    """To one broker; nothing is connected before the first message.

    It may be shared between threads, used after a fork, and pickled. A connection that was idle for long, has fallen
    silent or was lost is replaced by a new one.

    broker_url: `redis://` or `rediss://`; or `sentinel://HOST:26379;sentinel://HOST:26379/0?master_name=NAME`, whose
    Sentinels know which broker is the primary. answer_timeout: seconds to wait for an answer. prefix: of the
    installation's keys there. installation: the id of the one that is meant; None: the first that answers is, and from
    then on no other.

    Raises InvalidRequest on a URL or a prefix that cannot be read.
    """

    def __init__(
        self,
        broker_url: str,
        answer_timeout: float = 30.0,
        *,
        prefix: str = PREFIX,
        installation: str | None = None,
    ) -> None:
        self.answer_timeout = answer_timeout
        try:
            self._url = safe_broker_url(broker_url)
        except ValueError as error:
            raise InvalidRequest(f"broker_url: {error}") from None
        try:
            self._keys = key_prefix(prefix)
        except ValueError as error:
            raise InvalidRequest(f"prefix: {error}") from None
        self.installation = installation
        self._line: _Line | None = None
        self._notices: Notices | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy in another process: it opens connections of its own."""
        return {**vars(self), "_line": None, "_notices": None}

    def close(self) -> None:
        """Close what is open to the broker, once nobody uses it any more; what is asked later opens it again."""
        line, self._line = self._line, None
        if line is not None:
            line.retire()
        notices, self._notices = self._notices, None
        if notices is not None:
            notices.close()

    def follow(self, job: str, tell: Callable[[], None]) -> AbstractContextManager[Follower]:
        """While the block runs, `tell` is called, from another thread, whenever workers say that the job has got on.

        It works without: see `Follower.subscribed`.
        """
        notices = self._notices
        if notices is None or notices.process != os.getpid():
            notices = self._notices = Notices(partial(_subscriber, self._url, self._keys), self._keys)
            weakref.finalize(self, notices.close).atexit = False  # a client that is forgotten leaves no thread behind
        return notices.of(job, tell)

    def ask(
        self,
        message: Message,
        *,
        timeout: float | None = None,
        lane: str | None = None,
        on_interval: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Send a message and wait for its answer, `timeout` seconds or the connection's own.

        lane: where it is asked, if not on the message's own. on_interval: called every second while it waits;
        what it raises ends the call.

        What is not answered in a third of that time is asked once more, over a new connection: the worker that had
        taken it may have died, and so may the connection. Raises what the worker refused it with, BrokerUnavailable,
        NoAnswer.
        """
        seconds, lane = self.answer_timeout if timeout is None else timeout, lane or message.lane
        id = str(uuid.uuid4())
        answer = None
        for share in (1 / 3, 2 / 3) if message.repeatable else (1,):
            answer = self._try(message, id, seconds * share, lane, on_interval, again=share == 2 / 3)
            if answer is not None:
                break
        if answer is None:
            raise NoAnswer(
                f"no worker answered on the lane `{lane}` within {seconds:g} s: is one running on this broker?"
            )
        if not isinstance(answer, dict):  # an exception: it ended the worker's process
            raise NoAnswer(f"no worker answered on the lane `{lane}`: {answer}")
        if "error" in answer:
            raise revive(answer["error"], answer["message"])
        if self.installation is None:  # a worker of a version before does not say it
            self.installation = answer.get(INSTALLATION)
        return answer

    def send(self, message: Message) -> str:
        """Send a message that is not answered; its id. Raises BrokerUnavailable."""
        id = str(uuid.uuid4())
        self._use(lambda line: line.post(message, id, self.installation))
        return id

    def failure_of(self, id: str) -> str | None:
        """The error that the message `id` has failed with in the last minute, in a line; None where none is known."""
        found = None
        with suppress(BrokerUnavailable):
            found = self._use(lambda line: line.app.backend.get_task_meta(id))
        if found is None or found["status"] != "FAILURE":
            return None
        return next(iter(str(found["result"]).strip().splitlines()), None)

    def _try(
        self,
        message: Message,
        id: str,
        seconds: float,
        lane: str,
        on_interval: Callable[[], None] | None,
        *,
        again: bool,
    ) -> Any:
        """What a message was answered with; None where nothing came in time. again: whether it was sent before.

        Raises BrokerUnavailable.
        """

        def ask(line: _Line) -> Any:
            nonlocal again
            text = line.written(message, id, lane, self.installation, subscribed=True)
            look, again = again, True
            answer = line.wire.ask(id, line.key(lane), text, seconds=seconds, again=look, on_interval=on_interval)
            if answer is None:
                self._line = None  # it may have fallen silent
                return None
            return answer["result"]

        return self._use(ask)

    def _use(self, step: Callable[[_Line], T]) -> T:
        """Do something with the broker; once more, over a new line, where the broker was silent on the one there was.

        Raises BrokerUnavailable.
        """
        while True:
            line = self._line
            new = line is None or line.is_stale()
            if line is None or new:
                if line is not None:
                    line.retire()
                line = self._line = _Line(self._url, self._keys)
            if not line.enter():  # closed by another thread, just now
                continue
            try:
                result = step(line)
            except _DOWN as error:
                self._line = None
                if new or not _was_silent(error):
                    raise _broker_down(line.app, error) from error
            else:
                line.used_at = time.monotonic()
                return result
            finally:
                if self._line is not line:
                    line.retire()
                line.leave()


class Stopped(Exception):
    """Ends a call whose caller no longer waits for it. No caller ever sees it."""


class StoppableConnection(Connection):
    """Another connection, for one call that may be stopped: from then on whatever it asks or sends raises `Stopped`.

    on_stop: called when it is stopped.
    """

    def __init__(self, connection: Connection, on_stop: Callable[[], None] | None = None) -> None:
        self._shared, self._on_stop = connection, on_stop
        self._stopped = threading.Event()
        self.answer_timeout = connection.answer_timeout
        self.installation = connection.installation

    def stop(self) -> None:
        """From any thread."""
        self._stopped.set()
        if self._on_stop is not None:
            self._on_stop()

    def check(self) -> None:
        """Raises Stopped."""
        if self._stopped.is_set():
            raise Stopped

    def ask(self, message: Message, **options: Any) -> dict[str, Any]:
        self.check()
        return self._shared.ask(message, **options, on_interval=self.check)

    def send(self, message: Message) -> str:
        self.check()
        return self._shared.send(message)

    def failure_of(self, id: str) -> str | None:
        self.check()
        return self._shared.failure_of(id)

    def follow(self, job: str, tell: Callable[[], None]) -> AbstractContextManager[Follower]:
        return self._shared.follow(job, tell)

    def close(self) -> None:
        """Nothing is its own."""


class _Line:
    """What is open to a broker: a Celery application and connections that are no other application's.

    Celery's own pool is one for all applications with the same URL, and hands out what has fallen silent. Threads may
    share it: one that is retired is closed by the last to leave it, because the garbage collector, which would do the
    same, may take hours to come.
    """

    def __init__(self, url: str, keys: str) -> None:
        self.app, self._keys = _application(url, keys), keys
        self.used_at = time.monotonic()
        self._process = os.getpid()
        self._wires: dict[threading.Thread, Wire] = {}  # and Celery's result backends with them, one for each thread
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False

    def enter(self) -> bool:
        """Begin to use it; False where it is closed."""
        with self._lock:
            if self._retired and not self._users:
                return False
            self._users += 1
            ended = [thread for thread in self._wires if not thread.is_alive()]
            left = [self._wires.pop(thread) for thread in ended]
            if threading.current_thread() not in self._wires:
                self._wires[threading.current_thread()] = Wire(self.app.backend)
        _close_all(left)
        return True

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            over = self._retired and not self._users
        if over:
            self._close()

    def retire(self) -> None:
        """Have it closed once it is not in use. Another process's is left as it is: that one may be using it."""
        if self._process != os.getpid():
            return
        with self._lock:
            over = not self._retired and not self._users
            self._retired = True
        if over:
            self._close()

    def is_stale(self) -> bool:
        """Whether it is another process's, or was idle so long that a network may have forgotten it."""
        return self._process != os.getpid() or time.monotonic() - self.used_at > IDLE_LIMIT

    @property
    def wire(self) -> Wire:
        """This thread's."""
        return self._wires[threading.current_thread()]

    def key(self, lane: str) -> str:
        return self._keys + lane

    def written(
        self,
        message: Message,
        id: str,
        lane: str,
        installation: str | None,
        *,
        answered: bool = True,
        subscribed: bool = False,
    ) -> str:
        """A message as it stands on its lane."""
        said = {INSTALLATION: installation, SUBSCRIBED: subscribed or None}
        headers = {name: value for name, value in said.items() if value is not None}
        return envelope(message, id, lane, answered=answered, said=headers)

    def post(self, message: Message, id: str, installation: str | None) -> None:
        """Put a message that is not answered on its lane."""
        self.wire.post(self.key(message.lane), self.written(message, id, message.lane, installation, answered=False))

    def _close(self) -> None:
        _close_all(self._wires.values())


def _subscriber(url: str, keys: str) -> redis.Redis:
    """A client of the broker for one thread, with all that Celery makes of the URL."""
    backend: Any = _application(url, keys).backend
    client: redis.Redis = backend.client
    return client


def _close_all(wires: Iterable[Wire]) -> None:
    for wire in wires:
        with suppress(Exception):
            wire.close()


def _was_silent(error: BaseException) -> bool:
    """Whether the broker took the connection and did not answer, here or in what this error was raised from."""
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, redis.exceptions.TimeoutError) for cause in causes)


def _broker_down(app: ExplicitApplication, error: Exception) -> BrokerUnavailable:
    url = app.connection_for_write().as_uri()  # the password is masked
    cause = error.__cause__ or error.__context__ or error
    said = str(cause).strip().rstrip(".")
    if any(isinstance(each, redis.exceptions.OutOfMemoryError) for each in (error, cause)):
        return BrokerUnavailable(f"the broker at {url} is full: {said}")
    return BrokerUnavailable(f"no broker at {url}: {said}")


def _application(url: str, keys: str) -> ExplicitApplication:
    address, named = transport(url, retry=Retry(NoBackoff(), 0))
    app = ExplicitApplication("twinvec-client", broker=address, backend=address, set_as_current=False)
    options = {
        **named,
        "global_keyprefix": keys,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive(),
        "visibility_timeout": 600,
        **_RETRY_POLICY,
    }
    app.conf.update(
        task_serializer=SERIALIZER,
        result_serializer=SERIALIZER,
        accept_content=[SERIALIZER],
        broker_transport_options=options,
        result_backend_transport_options={
            **named,
            "global_keyprefix": keys,
            "retry_policy": _RETRY_POLICY,
        },
        redis_socket_connect_timeout=3,
        redis_socket_timeout=SOCKET_TIMEOUT,
        redis_socket_keepalive=Socket.read(url) is None,  # a socket of this machine has no such options
        task_publish_retry=False,
    )
    backend: Any = app.backend
    if "path" not in backend.connparams:
        backend.connparams["socket_keepalive_options"] = keepalive()
    return app
