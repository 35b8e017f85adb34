"""A large job is cancelled in its middle: it stops at once, what is done stays, and the counts add up."""

import time
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.oracle import judge
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

LONG: dict[str, Any] = {"count": 50_000, "seconds": 0.1}
SHORT: dict[str, Any] = {"count": 3_000, "seconds": 0.5}

STOPS_WITHIN = 2.0  # seconds from the request


def run(*, count: int, seconds: float) -> Result:
    """seconds: that the tower takes for a batch, so that three quarters take longer than a cancel may."""
    result = Result(case=10, name="cancelled in the middle", faults="1 cancelled while it is sent and embedded")
    pictures = noise(count)
    with Fleet() as fleet:
        fleet.injection.slow_down(seconds)
        other = fleet.application.embedding(noise(200, seed=1, prefix="other/"), collection="other", chunk=20)
        sending = fleet.application.embedding(pictures, collection="cancelled")
        id = fleet.until(lambda: first(fleet), "the job", within=60)
        fleet.until(lambda: succeeded(fleet, id) >= count // 4, "a quarter of the job", within=240)
        asked = time.time()
        answer = fleet.application.client().job(id).cancel()
        fleet.ledger.settled(sending.result(within=300), other.result())
        status = fleet.application.client().job(id).status()
        last = fleet.ledger.one(
            "SELECT extract(epoch FROM max(finished_at)) FROM batches WHERE embedded > 0 AND job = :id", id=id
        )
        cancelled = fleet.ledger.one("SELECT extract(epoch FROM cancelled_at) FROM jobs WHERE id = :id", id=id)
        judge(fleet, digests(pictures), collection="cancelled", cancelled=True).write(result)
        judge(fleet, digests(noise(200, seed=1, prefix="other/")), collection="other").write(result)
        stored = fleet.ledger.one("SELECT count(*) FROM digits WHERE collection = 'cancelled'")
        vectors = fleet.ledger.one(
            "SELECT count(*) FROM embeddings JOIN digits ON id = digit WHERE collection = 'cancelled'"
        )
    stopped = max(float(last), float(cancelled)) - asked
    result.images = count
    result.recovery = [stopped]
    result.require(
        status.cancelled >= count // 4, f"only {status.cancelled} of {count} were cancelled: it was too late"
    )
    result.require(answer.state == status.state == "cancelled", f"the job is {answer.state}, then {status.state}")
    result.require(stopped <= STOPS_WITHIN, f"it stopped {stopped:.1f} s after it was asked to")
    result.require(
        status.total == status.accepted == status.succeeded + status.cancelled == count,
        f"{count} sent, {status.accepted} accepted: {status.succeeded} embedded and {status.cancelled} cancelled",
    )
    result.require(
        vectors == status.succeeded == stored,
        f"{status.succeeded} are said to be embedded; there are {vectors} vectors and {stored} digits",
    )
    result.note = (
        f"{answer.succeeded:,} embedded and {answer.accepted:,} accepted when it was cancelled; "
        f"stopped after {stopped:.2f} s; another job beside it lost nothing"
    )
    return result


def first(fleet: Fleet) -> str | None:
    """The id of the job that is to be cancelled, once there is one."""
    found = fleet.ledger.rows("SELECT id FROM jobs WHERE collection = 'cancelled'")
    return str(found[0].id) if found else None


def succeeded(fleet: Fleet, id: str) -> int:
    return int(fleet.ledger.one("SELECT coalesce(sum(embedded), 0) FROM batches WHERE job = :id", id=id))
