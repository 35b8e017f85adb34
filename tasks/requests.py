"""Fields of requests, read and checked."""

from __future__ import annotations

import logging
import uuid
from typing import Any, ParamSpec

from db.errors import (
    UnknownJob,
)
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.limits import MAX_NAME_CHARS
from twinvec_client.contract.messages import BadMessage

log = logging.getLogger(__name__)
P = ParamSpec("P")
Answer = dict[str, Any]


class InvalidRequest(ValueError):
    """A field of a request is out of its limits."""


def callback_of(given: Any) -> dict[str, str] | None:
    """A message's (task, queue), as the ledger keeps it. Raises BadMessage where it is no pair of names."""
    if given is None:
        return None
    if not isinstance(given, list | tuple) or len(given) != 2 or not all(is_callable_name(name) for name in given):
        raise BadMessage(f"the callback {given!r:.80}")
    return {"task": given[0], "queue": given[1]}


def is_callable_name(name: Any) -> bool:
    """Whether it may name a caller's task or queue; ours all begin with the prefix of our keys."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
        return False
    return "\0" not in name and not name.startswith(KEY_PREFIX)


def job_id(text: str) -> uuid.UUID:
    """Raises UnknownJob on what is no UUID."""
    try:
        return uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        raise UnknownJob(f"{text!r:.80} is no job id") from None
