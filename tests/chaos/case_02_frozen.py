"""An idle worker is frozen, sent a message, and killed: the message is gone for good, the work is not.

The broker has handed the message to the frozen worker's socket. A plain Celery task is lost here ten times of ten.
"""

import time
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LEASE, SWEEP = 6.0, 0.5  # seconds; a tenth of the defaults, and so is the third
SETTINGS = {"TWINVEC_LEASE": f"{LEASE:g}", "TWINVEC_SWEEP": f"{SWEEP:g}", "TWINVEC_REPUBLISH_AFTER": "3"}
LONG: dict[str, Any] = {"rounds": 10, "within": LEASE + SWEEP}
SHORT: dict[str, Any] = {"rounds": 2, "within": 30.0}  # beside other tests: far below what the broker alone would take
CREW = {"front": "query,control,express", "intake": "intake", "embedder": "embed,backfill", "beat": ""}


def run(*, rounds: int, within: float) -> Result:
    """within: seconds from a kill to the end of the work, at most."""
    result = Result(case=2, name="idle worker frozen, sent a message, killed", faults=f"{rounds} frozen and killed")
    sent: dict[str, bytes] = {}
    with Fleet(CREW, settings=SETTINGS) as fleet:
        swallowed = tries = 0
        while swallowed < rounds and tries < 2 * rounds:  # a worker frozen between two requests is handed nothing
            at, tries = tries, tries + 1
            pictures = noise(10, seed=at, prefix=f"{at}/")
            fleet.await_ready()
            fleet.until(lambda: fleet.lanes.idle("embedder"), "an idle embedder")
            fleet.faults.freeze("embedder")
            job = fleet.application.embed(pictures)
            sent |= digests(pictures)
            swallowed += not waiting(fleet)
            fleet.faults.kill("embedder")
            killed = time.monotonic()
            fleet.ledger.settled(job)
            result.recovery.append(time.monotonic() - killed)
        result.images = len(sent)
        judge(fleet, sent).write(result)
        result.extra_work = extra_work(fleet)
    result.faults = f"{tries} frozen and killed, {swallowed} of them with the message"
    result.note = (
        f"lease {LEASE:g} s, sweep {SWEEP:g} s, republished after 3 s: a tenth of the defaults; a round whose message "
        f"went past the frozen worker is judged, and done again: {tries - swallowed} were"
    )
    result.require(swallowed == rounds, f"only {swallowed} of {rounds} messages went to the frozen worker")
    late = [seconds for seconds in result.recovery if seconds > within]
    result.require(not late, f"recovered late: {late} s")
    return result


def waiting(fleet: Fleet) -> int:
    """Messages that no worker has taken off the lane."""
    with fleet.lanes.redis() as broker:
        return int(broker.llen(fleet.lanes.key("embed")))
