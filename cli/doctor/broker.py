"""Checks of the broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import redis

from cli.display.console import masked
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding, findings
from twinvec_client.contract.broker import PREFIX, key_prefix
from worker.broker import connect_broker
from worker.preflight import faults_of, look
from worker.transport import KEPT, SET_ASIDE

_DAY = 86_400.0  # seconds

START_BROKER = "start one with `twinvec up`, or set TWINVEC_BROKER_URL"


def broker(url: str, prefix: str = PREFIX) -> Iterator[Finding]:
    """The broker, and how it is set."""
    try:
        with connect_broker(url, socket_connect_timeout=3, socket_timeout=10) as server:
            server.ping()
            yield from _server(server, masked(url))
            yield from _set_aside(server, key_prefix(prefix) + SET_ASIDE)
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


def _set_aside(server: Any, key: str) -> Iterator[Finding]:
    """Messages that were not admitted in the last day; nothing is found where the user may not read them."""
    try:
        kept = [json.loads(entry) for entry in server.lrange(key, 0, -1)]
    except redis.ResponseError:
        return
    recent = [entry for entry in kept if time.time() - entry["at"] < _DAY]
    if recent:
        count = f"{len(recent)}{' or more' if len(recent) == KEPT else ''}"
        reason = json.dumps(recent[0]["reason"])[1:-1]
        found = f"{count} messages were set aside today, the last on {recent[0]['lane']}: {reason:.200}"
        advice = f"look for their sender: `LRANGE {key} 0 -1` in the broker has them, DEL forgets them"
        yield Finding("broker", WARNING, found, advice)
