"""Calls a task of the caller's, on a queue of the caller's, when a job has ended. It must not know the ledger."""

from __future__ import annotations

from typing import Any

from twinvec_client.contract.broker import key_prefix
from twinvec_client.contract.messages import BadMessage, Callback
from worker import callers
from worker.settings import Settings


def check(callback: Callback | None, settings: Settings) -> None:
    """Raises BadMessage where a callback would write to this installation's own keys."""
    keys = key_prefix(settings.lane_prefix())
    if callback is not None and (callback.queue.startswith(keys) or callback.task.startswith(keys)):
        raise BadMessage(f"callback: its task and its queue do not begin with {keys}")


def call(callback: dict[str, str], outcome: dict[str, Any]) -> None:
    """Send one message, as Celery's own clients would. Raises kombu's OperationalError, redis's RedisError."""
    callers.send(callback["task"], [outcome], callback["queue"])
