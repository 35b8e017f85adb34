"""Checks of the broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from cli.display.console import masked
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding, findings
from worker.preflight import faults_of, look

START_BROKER = "start one with `twinvec up`, or set TWINVEC_BROKER_URL"


def broker(url: str) -> Iterator[Finding]:
    """The broker, and how it is set."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=10) as server:
            server.ping()
            yield from _server(server, masked(url))
    except (redis.RedisError, OSError, ValueError) as error:
        said = str(error).rstrip(".")
        yield Finding("broker", PROBLEM, f"none at {masked(url)} ({said})", START_BROKER)


def _server(server: Any, url: str) -> Iterator[Finding]:
    try:
        found = look(server)
    except redis.ResponseError as error:
        unknown = f"{url} answers, and does not say how it is set ({error})"
        yield Finding("broker", WARNING, unknown, "ask as a user that may INFO")
        return
    yield Finding("broker", OK, f"{found.name} {found.version} answers at {url}")
    yield from findings("broker", faults_of(found))
