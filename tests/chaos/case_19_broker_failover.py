"""The broker is lost in the middle of work, and its Sentinels promote the replica, which has not all that it had."""

from typing import Any

from tests.chaos import redundant
from tests.chaos.redundant import Redundant
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 12_800, "during": ("bulk", "training", "backfill"), "with_host": True}
SHORT: dict[str, Any] = {"digits": 640, "during": ("bulk",), "with_host": False}
FLEET = Redundant


def run(*, shared: Redundant | None = None, **options: Any) -> Result:
    result = Result(case=19, name="broker fails over", faults=f"{len(options['during'])} primaries lost")
    return redundant.run(result, Redundant.fail_broker_over, shared=shared, **options)
