"""Hosts are parted from each other, and from all others, in the middle of a job; packets vanish without a word."""

import time
from collections.abc import Sequence
from typing import Any

from tests.chaos.doctor import Asked, ask_doctor
from tests.chaos.hosts import CHUNK, Hosts, running
from tests.chaos.oracle import extra_work, judge, next_finish
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result

PAIRS = (
    ("client", "broker"),
    ("embedder", "broker"),
    ("embedder", "database"),
    ("intake", "broker"),
    ("intake", "database"),
    ("front", "broker"),
    ("front", "database"),
)
ALONE = (("broker",), ("database",), ("embedder",), ("client",), ("intake",), ("front",))
LONG: dict[str, Any] = {"cuts": [(*PAIRS, *ALONE)] * 3, "seconds": (5.0, 25.0, 120.0)}
SHORT: dict[str, Any] = {"cuts": [[("database",)]], "seconds": (5.0,)}
FLEET = Hosts

DIGITS = 640  # of each job: 20 batches
SENT_LONG = 1_600  # where one of SENDING is parted: so many that not all are accepted before
SENDING = {"client", "intake", "front"}
LATEST = 30.0  # seconds from the network's return to the next finished batch
STANDS_STILL = 15.0  # seconds of a cut after which `twinvec doctor` has to say so
KEEPS_WORK_GOING = {("client", "broker"), ("client",)}  # cuts by which no worker loses anything


def run(*, cuts: Sequence[Sequence[tuple[str, ...]]], seconds: Sequence[float], shared: Hosts | None = None) -> Result:
    """cuts: for each of `seconds`, which hosts are parted, one from another or from all."""
    result = Result(case=15, name="hosts parted", faults=f"{sum(map(len, cuts))} partitions")
    with running(shared, Hosts) as fleet:
        for duration, parted in zip(seconds, cuts, strict=True):
            for ends in parted:
                part(fleet, result, ends, duration)
        result.extra_work = extra_work(fleet)
    result.note = (
        f"cut for {' and '.join(f'{each:g}' for each in seconds)} s, one host from another or from all; "
        f"{CHUNK} digits a batch; recovery is the time from the network's return to the next finished batch"
    )
    return result


def part(fleet: Hosts, result: Result, ends: tuple[str, ...], duration: float) -> None:
    """One job, with one partition in its middle."""
    name = f"{'-'.join(ends)} for {duration:g} s"
    before = fleet.ledger.done()
    digits = SENT_LONG if SENDING & set(ends) else DIGITS
    client = fleet.send(name, digits)
    fleet.until(lambda: fleet.ledger.reaches(before + DIGITS // 4), "the middle of the job")
    fleet.network.part(*ends)
    asked = wait(fleet, duration)
    fleet.network.heal()
    healed = fleet.faults.note(f"{name}: healed")
    client.finish(result)
    fleet.ledger.settled(within=120)
    recovery = next_finish(fleet, [healed])
    result.require(recovery, f"{name}: nothing was left to do when the network came back")
    result.require(all(each <= LATEST for each in recovery), f"{name}: resumed late: {recovery} s")
    if asked is not None and ends not in KEEPS_WORK_GOING:
        asked.judge(result, name)
    result.recovery += recovery
    result.images = (result.images or 0) + digits
    judge(fleet, digests(noise(digits)), collection=name).write(result)


def wait(fleet: Hosts, duration: float) -> Asked | None:
    """Sit a partition out; what `twinvec doctor` said in its middle, where there was time to ask."""
    end = time.monotonic() + duration
    asked = None
    if duration > STANDS_STILL:
        time.sleep(STANDS_STILL)
        asked = ask_doctor(fleet)
    time.sleep(max(0.0, end - time.monotonic()))
    return asked
