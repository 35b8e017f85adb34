"""A broker without persistence is killed in the middle of a job, again and again, and then told to forget all."""

import time
from functools import partial
from typing import Any

from tests.chaos.application import CHUNK
from tests.chaos.callback import CALLBACK, require_calls
from tests.chaos.faults import Fault
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 12_800, "kills": 10, "flushes": 3}
SHORT: dict[str, Any] = {"digits": 1_280, "kills": 1, "flushes": 1}

SETTINGS = {"TWINVEC_BACKLOG": str(40 * CHUNK)}  # the client waits, so that it still sends at the last fault
DOWN = 0.5  # seconds
LATEST = 30.0  # seconds until all that was queued is published again, or done


def run(*, digits: int, kills: int, flushes: int) -> Result:
    result = Result(case=3, name="broker killed, then emptied", faults=f"{kills} kill -9, {flushes} FLUSHALL")
    result.images = digits
    pictures, delays = noise(digits), []
    with Fleet(settings=SETTINGS, forgetful=True) as fleet:
        fleet.injection.slow_down(0.2)
        sending = fleet.application.embedding(pictures, on_finish=CALLBACK)
        for at in range(kills + flushes):
            share = digits * (at + 1) // (kills + flushes + 1)
            fleet.until(partial(fleet.ledger.reaches, share), f"{share} digits", within=120)
            queued = [row.id for row in fleet.ledger.rows("SELECT id FROM batches WHERE state = 'queued'")]
            fault = fleet.faults.kill_broker(down=DOWN) if at < kills else fleet.faults.flush_broker()
            last = Fault("the broker is back", time.time())
            fleet.until(partial(published, fleet, queued, fault.at), "a message for each batch", within=60)
            delays.append(time.time() - fault.at)
            resumed = fault.at + (DOWN if at < kills else 0)
            fleet.until(partial(resumes, fleet, resumed, digits), "a claim", within=120)
            result.recovery.append(time.time() - fault.at)
        job = sending.result()
        fleet.ledger.settled(job)
        judge(fleet, digests(pictures)).write(result)
        if next_finish(fleet, [last]):  # else its call may have been wiped with all else
            require_calls(fleet, result, job)
        result.extra_work = extra_work(fleet)
    called = f"called back {result.calls} times" if result.calls else "the call that it has ended may have been wiped"
    result.note = (
        f"no persistence, {DOWN:g} s down; all that was queued was published again, or done, "
        f"within {max(delays):.1f} s; "
        f"recovery is the time until a batch is claimed again; {called}"
    )
    late = [seconds for seconds in delays if seconds > LATEST]
    result.require(not late, f"published late: {late} s")
    return result


def resumes(fleet: Fleet, since: float, digits: int) -> bool:
    """Whether a batch was claimed since then, or all are embedded."""
    return any(claim.at > since for claim in fleet.injection.noted("claims")) or fleet.ledger.reaches(digits)


def published(fleet: Fleet, batches: list[int], since: float) -> bool:
    """Whether each of these batches that is still queued was published since then."""
    query = """
        SELECT count(*) FROM batches WHERE id = ANY(:batches) AND state = 'queued'
        AND (published_at IS NULL OR published_at < to_timestamp(:since))
    """
    return not fleet.ledger.one(query, batches=batches, since=since)
