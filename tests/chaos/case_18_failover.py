"""The database is lost in the middle of work, and its standby takes over: nothing that was accepted is gone.

The standby confirms every commit (`synchronous_standby_names`); the workers' URL names both hosts, and
`target_session_attrs=read-write`.
"""

from typing import Any

from tests.chaos import redundant
from tests.chaos.redundant import Redundant
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 12_800, "during": ("bulk", "training", "backfill"), "with_host": True}
SHORT: dict[str, Any] = {"digits": 640, "during": ("bulk",), "with_host": False}
FLEET = Redundant


def run(*, shared: Redundant | None = None, **options: Any) -> Result:
    result = Result(case=18, name="database fails over", faults=f"{len(options['during'])} primaries lost")
    return redundant.run(result, Redundant.fail_database_over, shared=shared, **options)
