"""Processes exit at the moments that hurt most: after a claim, in the middle of a transaction, after its commit."""

from typing import Any

from tests.chaos.callback import CALLBACK, require_calls
from tests.chaos.faults import Fault
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"exits": 20, "together": False}
SHORT: dict[str, Any] = {"exits": 1, "together": True}

POINTS = ("after-claim", "after-decode", "after-tower", "inside-finish", "after-commit", "after-intake")
CHUNK = 32  # digits; twice as many batches as exits


def run(*, exits: int, together: bool) -> Result:
    """together: whether all points are armed at once, or one after the other."""
    result = Result(case=5, name="exits at named points", faults=f"{exits} exits at each of {len(POINTS)} points")
    sent: dict[str, bytes] = {}
    jobs: list[str] = []
    with Fleet() as fleet:
        for points in [POINTS] if together else [(point,) for point in POINTS]:
            pictures = noise(2 * exits * CHUNK * len(points), seed=len(sent), prefix=f"{points[0]}/")
            for point in points:
                fleet.injection.arm(point, exits)
            jobs.append(fleet.application.embed(pictures, chunk=CHUNK, on_finish=CALLBACK))
            fleet.ledger.settled(jobs[-1], within=300)
            sent |= digests(pictures)
            for point in points:
                happened = len(fleet.injection.noted(point))
                result.require(happened == exits, f"{happened} exits {point}, not {exits}")
        faults = [Fault(point, note.at) for point in POINTS for note in fleet.injection.noted(point)]
        result.images, result.recovery = len(sent), next_finish(fleet, faults)
        judge(fleet, sent).write(result)
        require_calls(fleet, result, *jobs)
        result.extra_work = extra_work(fleet)
    result.note = (
        f"{', '.join(POINTS)}; {CHUNK} digits a batch; recovery is the time to the next finished batch; "
        f"{len(jobs)} jobs called the application back {result.calls} times"
    )
    return result
