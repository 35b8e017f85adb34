"""The database is restarted at once, is down for a while, and loses every connection every second."""

import time
from functools import partial
from typing import Any

from tests.chaos.fleet import SETTINGS, Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 12_800, "restarts": 5, "down": 30.0, "cut_for": 60}
SHORT: dict[str, Any] = {"digits": 960, "restarts": 1, "down": 3.0, "cut_for": 4}

LATEST = float(SETTINGS["TWINVEC_LEASE"]) + 10  # seconds from the database's return to the next finished batch


def run(*, digits: int, restarts: int, down: float, cut_for: int) -> Result:
    """down, cut_for: seconds."""
    faults = f"{restarts} immediate restarts, {down:g} s down, all connections cut {cut_for} times"
    result = Result(case=4, name="database restarted, down, cut off", faults=faults, images=digits)
    result.note = "cut once a second; recovery is the time from the database's return to the next finished batch"
    pictures, returns = noise(digits), []
    with Fleet() as fleet:
        fleet.injection.slow_down(0.3)
        before = {name: (member.pid, [child.pid for child in member.pool()]) for name, member in fleet.members.items()}
        sent = Share(digits)
        sending = fleet.application.embedding(pictures, pace=sent.wait)
        for at in range(restarts + 1):
            sent.grow((2 * at + 1) / (restarts + 1) / 4)
            more = fleet.ledger.done() + 1
            fleet.until(partial(fleet.ledger.reaches, more), "the next batch", within=60)
            fleet.faults.stop_database()
            time.sleep(down if at == restarts else 0)
            fleet.database.start()
            returns.append(fleet.faults.note("database back"))
            # What was refused is sent again once the client asks for receipts; here its stream may stand still before.
            sent.grow((2 * at + 2) / (restarts + 1) / 4)
            fleet.until(lambda: next_finish(fleet, returns[-1:]), "a batch after the database's return", within=60)
        for at in range(cut_for):
            sent.grow((1 + (at + 1) / cut_for) / 2)
            fleet.faults.cut_connections()
            time.sleep(1)
        fleet.ledger.settled(sending.result())
        result.recovery = next_finish(fleet, returns)
        judge(fleet, digests(pictures)).write(result)
        result.extra_work = extra_work(fleet)
        for name, member in fleet.members.items():
            result.require(member.starts == 1, f"{name} died {member.starts - 1} times")
            result.require([child.pid for child in member.pool()] == before[name][1], f"{name} has lost pool processes")
    late = [seconds for seconds in result.recovery if seconds > LATEST]
    result.require(not late, f"resumed late: {late} s")
    return result


class Share:
    """Lets a client send a growing share of its pictures."""

    def __init__(self, total: int) -> None:
        self.total, self.allowed = total, 0.0

    def grow(self, share: float) -> None:
        self.allowed = share * self.total

    def wait(self, sent: int) -> None:
        while sent >= self.allowed:
            time.sleep(0.05)
