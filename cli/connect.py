"""The broker of this call, checked, and the client made from its URL. It must not know what the client is asked."""

from __future__ import annotations

import getpass

import redis

from cli.display.console import masked
from cli.errors import CommandError
from cli.exit_codes import NO_ANSWER
from twinvec_client import Twinvec
from worker.broker import connect_broker
from worker.settings import Settings


def client() -> Twinvec:
    """A client of the broker that is set, or of the stack that runs in the home folder. Raises CommandError."""
    settings = Settings()
    url = settings.broker()
    check_broker(url)
    return Twinvec(url, prefix=settings.lane_prefix())


def who() -> str | None:
    """Who runs this command, by the name of the account; None where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def check_broker(url: str) -> None:
    """Raises CommandError where nothing answers there: Celery would try for a while before it says so."""
    try:
        with connect_broker(url, socket_connect_timeout=3, socket_timeout=10) as server:
            server.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise CommandError(
            f"no broker at {masked(url)} ({str(error).rstrip('.')}): start one with `twinvec up`, "
            f"or set TWINVEC_BROKER_URL",
            NO_ANSWER,
        ) from error
