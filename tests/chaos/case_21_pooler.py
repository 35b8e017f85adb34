"""A PgBouncer that pools by transaction stands before the database, and is killed in the middle of work."""

import time
from functools import partial
from typing import Any

from db.engine import transact
from tests.chaos.case_04_database import Share
from tests.chaos.doctor import ask_doctor
from tests.chaos.fleet import CREW, Fleet
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.pooler import SESSIONS, Pooler
from tests.chaos.result import Result
from tests.makers import register

LONG: dict[str, Any] = {"digits": 12_800, "kills": 10, "down": 30.0}
SHORT: dict[str, Any] = {"digits": 320, "kills": 1, "down": 0.0}

LATEST = 30.0  # seconds from the pooler's return to the next finished batch
STANDS_STILL = 5.0  # seconds without it after which `twinvec doctor` is asked


class Pooled(Fleet):
    """A fleet whose members reach the database through a pooler. Raises NoPooler where there is none."""

    def __init__(self) -> None:
        # No lane is missing: doctor has nothing to say.
        super().__init__({**CREW, "front": "query,control,express,train"})
        self.pooler = Pooler(self.home / "pooler", self.database)

    def _start(self) -> None:
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        self.database.start()
        self.pooler.start()
        super()._start()

    def stop(self) -> None:
        self.pooler.kill()
        super().stop()

    def environment(self, name: str) -> dict[str, str]:
        return super().environment(name) | {"TWINVEC_DATABASE_URL": self.pooler.url}


def run(*, digits: int, kills: int, down: float) -> Result:
    """down: seconds without the pooler at the last kill."""
    result = Result(case=21, name="behind a pooler", faults=f"PgBouncer killed {kills} times", images=digits)
    pictures, returns = noise(digits), []
    with Pooled() as fleet:
        fleet.injection.slow_down(0.3)
        sent = Share(digits)
        sending = fleet.application.embedding(pictures, pace=sent.wait)
        for at in range(kills):
            sent.grow((at + 1) / kills)
            more = fleet.ledger.done() + 1
            fleet.until(partial(fleet.ledger.reaches, more), "the next batch", within=60)
            fleet.pooler.kill()
            if down and at == kills - 1:
                time.sleep(STANDS_STILL)
                ask_doctor(fleet).judge(result, "without a pooler")
                time.sleep(max(0.0, down - STANDS_STILL))
            fleet.pooler.start()
            returns.append(fleet.faults.note("pooler back"))
        fleet.ledger.settled(sending.result())
        result.recovery = next_finish(fleet, returns)
        result.require(result.recovery, "nothing was left to do after it")
        fleet.injection.slow_down(0)
        second = register(partial(transact, fleet.engine), "second")
        fleet.until(lambda: fleet.ledger.one("SELECT id FROM towers WHERE status = 'live'") == second, "a second tower")
        problems = ask_doctor(fleet).problems
        result.require(not problems, f"doctor says at the end: {problems}")
        judge(fleet, digests(pictures)).write(result)
        result.extra_work = extra_work(fleet)
    late = [seconds for seconds in result.recovery if seconds > LATEST]
    result.require(not late, f"resumed late: {late} s")
    result.note = (
        f"PgBouncer 1.18 or newer with `pool_mode = transaction` and {SESSIONS} sessions for all workers, and "
        f"`pooler=transaction` in their URL; away for {down:g} s at last; a second tower was filled; recovery is the "
        "time from its return to the next finished batch"
    )
    return result
