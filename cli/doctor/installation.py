"""Whose the broker's lanes are: the workers that a probe finds there are those of that installation."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from cli.doctor.finding import OK, Finding, findings
from worker.installation import faults, own
from worker.settings import Settings


def installation(settings: Settings) -> Iterator[Finding]:
    """Nothing where broker or database do not answer: findings of their own say so."""
    try:
        others = faults(settings.broker(), settings)
    except (redis.RedisError, OSError, ValueError):
        return
    yield from findings("installation", others)
    if not others and (mine := own(settings)) is not None:
        yield Finding("installation", OK, f"{mine:.8}, and the prefix of its lanes is {settings.lane_prefix()}")
