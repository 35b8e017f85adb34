"""Answers and refusals: a task that is waited for returns a dict, and a refusal is a dict that names its class."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from sqlalchemy.exc import OperationalError

from db.errors import (
    NotEmbedded,
    NoTower,
    NotRescuable,
    SchemaError,
    TrainingRunning,
    UnknownBatch,
    UnknownJob,
    UnknownKey,
    first_line,
)
from training.errors import PictureError
from twinvec_client.messages import KEY_PREFIX, MAX_NAME_CHARS, BadMessage

log = logging.getLogger(__name__)
P = ParamSpec("P")
Answer = dict[str, Any]

_REFUSALS = (
    NoTower,
    NotEmbedded,
    NotRescuable,
    TrainingRunning,
    UnknownBatch,
    UnknownJob,
    UnknownKey,
)  # the client has errors of these names


class InvalidRequest(ValueError):
    """A field of a request is out of its limits."""


def answering(work: Callable[P, Answer]) -> Callable[P, Answer]:
    """Turn what `work` raises into an answer: a caller elsewhere gets a sentence, never a traceback."""

    @wraps(work)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return work(*args, **kwargs)
        except _REFUSALS as error:
            return refusal(type(error).__name__, str(error))
        except PictureError as error:
            return refusal("PictureRefused", f"{error.reason}: {error}")
        except (InvalidRequest, BadMessage) as error:
            return refusal("InvalidRequest", str(error))
        except (OperationalError, SchemaError) as error:
            log.warning("no database: %s", first_line(error))
            return refusal("DatabaseUnavailable", first_line(error))
        except Exception as error:
            log.exception("could not answer")
            return refusal(type(error).__name__, first_line(error))

    return answer


def refusal(name: str, message: str) -> Answer:
    return {"error": name, "message": message}


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
