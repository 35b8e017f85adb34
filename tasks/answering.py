"""Answers and refusals: a task that is waited for returns a dict, and a refusal is a dict that names its class."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from sqlalchemy.exc import OperationalError

from db.errors import (
    NotEmbedded,
    NoTower,
    NotPausable,
    NotPromotable,
    NotRescuable,
    NotRetirable,
    TowerNotLive,
    TrainingRunning,
    UnknownBatch,
    UnknownJob,
    UnknownKey,
    UnknownTower,
    first_line,
)
from training.errors import PictureError
from twinvec_client.contract.messages import BadMessage
from worker.settings import NoDatabase

log = logging.getLogger(__name__)
Reply = dict[str, Any]
P = ParamSpec("P")

_REFUSALS = (
    NoTower,
    NotEmbedded,
    NotPausable,
    NotPromotable,
    NotRescuable,
    NotRetirable,
    TowerNotLive,
    TrainingRunning,
    UnknownBatch,
    UnknownJob,
    UnknownKey,
    UnknownTower,
)  # the client has errors of these names


class InvalidRequest(ValueError):
    """A request that is right by its form cannot be answered; the message says why, and what can."""


def answering(work: Callable[P, Reply]) -> Callable[P, Reply]:
    """Turn what `work` raises into an answer: the caller gets a sentence, never a traceback."""

    @wraps(work)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Reply:
        try:
            return work(*args, **kwargs)
        except _REFUSALS as error:
            return refusal(type(error).__name__, str(error))
        except PictureError as error:
            return refusal("PictureRefused", f"{error.reason}: {error}")
        except (InvalidRequest, BadMessage) as error:
            return refusal("InvalidRequest", str(error))
        except (OperationalError, NoDatabase) as error:
            log.warning("no database: %s", first_line(error))
            return refusal("DatabaseUnavailable", first_line(error))
        except Exception as error:
            log.exception("could not answer")
            return refusal(type(error).__name__, first_line(error))

    return answer


def refusal(name: str, message: str) -> Reply:
    return {"error": name, "message": message}
