"""One worker's clock is an hour ahead, another's an hour behind; leases go by the database's."""

import re
from datetime import datetime
from functools import partial
from typing import Any

from tests.chaos.case_04_database import Share
from tests.chaos.fleet import SETTINGS, Fleet
from tests.chaos.oracle import extra_work, judge, recoveries
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 12_800, "kills": 4}
SHORT: dict[str, Any] = {"digits": 1_920, "kills": 2}

HOUR = 3600
CLOCKS = {"embedder-1": {"CHAOS_CLOCK": str(HOUR)}, "embedder-2": {"CHAOS_CLOCK": str(-HOUR)}}
LATEST = float(SETTINGS["TWINVEC_LEASE"]) + float(SETTINGS["TWINVEC_SWEEP"]) + 2  # seconds; a sweep may be late


def run(*, digits: int, kills: int) -> Result:
    result = Result(case=13, name="wrong clocks", faults=f"+1 h and -1 h, {kills} kill -9")
    pictures, more = noise(digits), noise(digits, seed=1, prefix="killed/")
    with Fleet(of_member=CLOCKS) as fleet:
        fleet.injection.slow_down(0.1)
        fleet.ledger.settled(fleet.application.embed(pictures))
        result.extra_work = extra_work(fleet)
        result.require(result.extra_work == 0, f"extra work {result.extra_work:.1%} without any death")
        workers = fleet.ledger.one("SELECT count(DISTINCT worker) FROM batches WHERE state = 'done' AND embedded > 0")
        result.require(workers == 2, f"{workers} workers did all the work")
        apart = clock(fleet, "embedder-1") - clock(fleet, "embedder-2")
        result.require(abs(apart - 2 * HOUR) < 600, f"the clocks are {apart:.0f} s apart")
        fleet.injection.slow_down(0.5)
        sent = Share(digits)  # a part for each kill: a process starts for as long as the others work
        sending = fleet.application.embedding(more, pace=sent.wait)
        for at in range(kills):
            sent.grow((at + 1) / kills)
            name = f"embedder-{1 + at % 2}"
            fleet.until(partial(holds, fleet, name), f"{name} with a batch")
            fault = fleet.faults.kill(name)
            fleet.until(fault.over, "the end of a dead worker's lease")
            fleet.await_ready(name)
        fleet.ledger.settled(sending.result())
        result.images = 2 * digits
        result.recovery = recoveries(fleet)
        judge(fleet, digests(pictures | more)).write(result)
    late = [seconds for seconds in result.recovery if seconds > LATEST]
    result.require(not late, f"recovered late: {late} s")
    return result


def holds(fleet: Fleet, name: str) -> bool:
    holders = fleet.members[name].holders()
    return bool(
        fleet.ledger.rows("SELECT 1 FROM batches WHERE state = 'leased' AND worker = ANY(:holders)", holders=holders)
    )


def clock(fleet: Fleet, name: str) -> float:
    """What time a member gave its first line, seconds since 1970."""
    stamp = re.search(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ INFO", fleet.members[name].log.read_text(), re.MULTILINE)
    assert stamp is not None, f"{name} has told no time"
    return datetime.fromisoformat(stamp[1]).timestamp()
