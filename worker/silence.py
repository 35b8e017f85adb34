"""Once a connection of this process has fallen silent, no other one of its is waited for: what falls silent seldom does
so alone. Those to the broker that lie in a pool are then opened anew before they are used. It must not know their work.
"""

from __future__ import annotations

import time
from typing import Any

from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import TimeoutError as NoAnswer
from sqlalchemy import Engine, event

from db.engine import Silent


class Noted:
    """When one was last found silent, by `time.monotonic()`."""

    at = 0.0


def note() -> None:
    """One was found silent just now."""
    Noted.at = time.monotonic()


def install() -> None:
    """Have it noted of each connection to the broker, whoever opened it, and heeded by each pool of them."""
    read, lend = AbstractConnection.read_response, ConnectionPool.get_connection

    def read_response(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        try:
            return read(self, *args, **options)
        except NoAnswer:
            note()
            raise

    def get_connection(self: Any, *args: Any, **options: Any) -> Any:
        if vars(self).get("_heeded", 0.0) < Noted.at:
            self._heeded = Noted.at
            self.disconnect(inuse_connections=False)
        return lend(self, *args, **options)

    # redis-py has no hook for either, and each of our clients, Celery's and kombu's makes its own pool.
    AbstractConnection.read_response = read_response  # type: ignore[method-assign]
    ConnectionPool.get_connection = get_connection  # type: ignore[method-assign]


def watch(engine: Engine) -> None:
    """Have it noted of an engine's connections, which throws all of them away by itself where one is silent."""

    @event.listens_for(engine, "handle_error")
    def noted(context: Any) -> None:
        if isinstance(context.original_exception, Silent):
            note()
