"""A network that is slow, loses packets, does not know names for a while, and moves the database."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.chaos.doctor import OPERATOR, ask_doctor
from tests.chaos.hosts import CHUNK, Hosts, running
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

FAULTS = ("slow", "lossy", "nameless", "moved")
LONG: dict[str, Any] = {"digits": 960, "nameless": 120.0, "faults": FAULTS}
SHORT: dict[str, Any] = {"digits": 640, "nameless": 0.0, "faults": ("moved",)}
FLEET = Hosts

LATENCY, LOSS = 0.05, 0.01  # seconds, share
LATEST = 30.0  # seconds until the next finished batch
STANDS_STILL = 15.0  # seconds without names after which `twinvec doctor` is asked


def run(*, digits: int, nameless: float, faults: Sequence[str], shared: Hosts | None = None) -> Result:
    """nameless: seconds for which no name is known."""
    hurts: dict[str, tuple[str, Callable[[Hosts, Result], None]]] = {
        "slow": (f"{LATENCY * 1000:g} ms a packet", slow),
        "lossy": (f"{LOSS:.0%} of packets lost", lossy),
        "nameless": (f"names unknown for {nameless:g} s", partial(lose_names, nameless)),
        "moved": ("database moved", move),
    }
    result = Result(case=17, name="a poor network", faults=", ".join(hurts[name][0] for name in faults))
    with running(shared, Hosts) as fleet:
        took = {name: one(fleet, result, name, digits, hurts[name][1]) for name in faults}
        lost = fleet.network.lost
        result.extra_work = extra_work(fleet)
    result.images = len(faults) * digits
    result.note = (
        f"{CHUNK} digits a batch; {lost} packets lost; jobs of {digits:,} took "
        f"{', '.join(f'{seconds:.0f} s ({name})' for name, seconds in took.items())}; while names were unknown, all "
        "connections were lost as well; recovery is the time from their return, and from the database's move, to the "
        "next finished batch"
    )
    return result


def one(fleet: Hosts, result: Result, name: str, digits: int, hurt: Callable[[Hosts, Result], None]) -> float:
    """One job, hurt in its middle; the seconds that it took."""
    start, before = time.monotonic(), fleet.ledger.done()
    client = fleet.send(name, digits)
    fleet.until(lambda: fleet.ledger.reaches(before + digits // 8), "the middle of the job")
    hurt(fleet, result)
    back = fleet.faults.note(name)
    if name != "nameless":  # then it was asked before the names came back
        ask_doctor(fleet).judge(result, name)
    client.finish(result)
    fleet.ledger.settled(within=120)
    fleet.network.latency = fleet.network.loss = 0.0
    recovery = next_finish(fleet, [back])
    result.require(recovery, f"{name}: nothing was left to do after it")
    result.require(all(each <= LATEST for each in recovery), f"{name}: resumed late: {recovery} s")
    result.recovery += recovery
    judge(fleet, digests(noise(digits)), collection=name).write(result)
    return time.monotonic() - start


def slow(fleet: Hosts, result: Result) -> None:
    fleet.network.latency = LATENCY


def lossy(fleet: Hosts, result: Result) -> None:
    fleet.network.loss = LOSS


def move(fleet: Hosts, result: Result) -> None:
    fleet.network.move("database")


def lose_names(seconds: float, fleet: Hosts, result: Result) -> None:
    """No host but the operator's knows broker and database by name, and all that was connected is to connect anew."""
    end = time.monotonic() + seconds
    for host in fleet.network.hosts:
        if host != OPERATOR:
            fleet.network.resolve(host, without=("broker", "database"))
    fleet.network.forget("broker", "database")
    time.sleep(min(seconds, STANDS_STILL))
    ask_doctor(fleet).judge(result, "nameless")
    time.sleep(max(0.0, end - time.monotonic()))
    for host in fleet.network.hosts:
        fleet.network.resolve(host)
