"""Checks of the broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from packaging.version import Version

from cli.display.console import masked
from cli.doctor.finding import OK, PROBLEM, WARNING, Finding

BROKERS = {"redis": "7", "valkey": "8"}  # the oldest that will do

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
        info = server.info()
    except redis.ResponseError as error:
        found = f"{url} answers, and does not say how it is set ({error})"
        yield Finding("broker", WARNING, found, "ask as a user that may INFO")
        return
    name = info.get("server_name", "redis")
    number = info.get(f"{name}_version", info["redis_version"])
    oldest = BROKERS.get(name, BROKERS["redis"])
    if Version(number) >= Version(oldest):
        yield Finding("broker", OK, f"{name} {number} at {url}")
    else:
        yield Finding("broker", PROBLEM, f"{name} {number} at {url} is too old", f"install {name} {oldest} or newer")
    policy, limit = info["maxmemory_policy"], info["maxmemory"]
    if policy != "noeviction":
        found = f"maxmemory-policy is {policy}: " + ("it drops messages" if limit else "harmless while it has no limit")
        yield Finding("broker", PROBLEM if limit else WARNING, found, "set maxmemory-policy to noeviction")
    if not info["aof_enabled"]:
        found = "no append-only file: what it holds is lost when it restarts, and has to be sent again"
        yield Finding("broker", WARNING, found, "set appendonly to yes")
    elif info["aof_last_write_status"] != "ok":
        advice = "look at its log and its disk"
        yield Finding("broker", PROBLEM, "it could not write its append-only file, and refuses messages", advice)
