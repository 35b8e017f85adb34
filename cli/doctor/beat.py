"""Checks of the scheduler: one must run."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from twinvec_client.contract.broker import PREFIX, key_prefix
from worker.beats import running
from worker.broker import connect_broker


def beat(broker_url: str, prefix: str = PREFIX) -> Iterator[Finding]:
    """The schedulers that run. Nothing where the broker does not say: its own finding says so."""
    try:
        with connect_broker(broker_url, socket_connect_timeout=3, socket_timeout=10) as broker:
            beats = running(broker, key_prefix(prefix))
    except (redis.RedisError, OSError, ValueError):  # of a URL that is none
        return
    if not beats:
        found = "none runs: expired leases are not rescued, lost messages not sent again, callbacks not called"
        yield Finding("beat", PROBLEM, found, "start one with `twinvec beat`, or all with `twinvec up`")
    elif len(beats) == 1:
        yield Finding("beat", OK, beats[0])
    else:
        found = f"{len(beats)} run: {', '.join(beats)}; it does no harm, and each message is sent {len(beats)} times"
        yield Finding("beat", WARNING, found, "stop all but one")
