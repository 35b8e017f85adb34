"""The application's task that is to be told of the end of a job, and what stands on its queue."""

import base64
import json
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.result import Result
from twinvec_client import Callback

CALLBACK = Callback("application.embedded", queue="application")
COUNTS = ("state", "total", "accepted", "succeeded", "unchanged", "failed", "cancelled")
WITHIN = 30.0  # seconds from a job's end


def require_calls(fleet: Fleet, result: Result, *jobs: str) -> None:
    """Require that the application was called for each of these jobs, with the counts that it has."""
    fleet.until(lambda: {outcome["id"] for outcome in calls(fleet)} >= {*jobs}, "a call for every job", within=WITHIN)
    called = calls(fleet)
    for job in jobs:
        status = fleet.application.client().job(job).status()
        told = [{name: outcome[name] for name in COUNTS} for outcome in called if outcome["id"] == job]
        wrong = [counts for counts in told if counts != {name: getattr(status, name) for name in COUNTS}]
        result.require(not wrong, f"the application was told {wrong} of a job with {status}")
    result.calls += len(called)


def calls(fleet: Fleet) -> list[dict[str, Any]]:
    """What its task was called with, newest first."""
    with fleet.lanes.redis() as broker:
        messages = [json.loads(message) for message in broker.lrange(CALLBACK.queue, 0, -1)]
    assert {message["headers"]["task"] for message in messages} <= {CALLBACK.task}
    return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]
