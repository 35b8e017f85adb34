"""What real workers make of spoilt messages, faxes and costly pictures, and what an honest caller sees meanwhile.

It must not know who asks: tests ask for a little of it, `python -m tests.abuse` for all.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.abuse.envelopes import envelope, plain_envelope, spoil
from tests.abuse.payloads import ASKED, payload
from tests.abuse.pictures import fax
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import Verdict, judge
from tests.chaos.pictures import digests, noise
from tests.makers import peak
from twinvec_client import Twinvec
from twinvec_client.contract.broker import KEY_PREFIX, LANES
from twinvec_client.contract.messages import MESSAGES
from twinvec_client.contract.plain import REQUESTS
from twinvec_client.errors import PictureRefused, TwinvecError

CREW = {"front": "query,control,express", "rest": "intake,embed,backfill,train"}
AT_ONCE = 100  # spoilt messages of each kind, after which an honest caller asks
EVERY = 0.2  # seconds between two look-ups of the honest caller beside a costly picture
TASKS = {lane: sorted(each.task for each in MESSAGES if each.lane == lane) for lane in LANES}
PLAIN_TASKS = {
    lane: sorted(each.task for each in REQUESTS if each.lane == lane)
    for lane in sorted({each.lane for each in REQUESTS})
}


@dataclass
class Fuzzed:
    """messages: that were sent, by lane. waits: seconds of the honest calls between. died: members whose processes are
    not those of before. raised: what tasks raised that they do not answer. verdict: on the digits that the honest
    caller embedded."""

    messages: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    logged: int = 0  # bytes
    verdict: Verdict = field(default_factory=Verdict)
    sent: int = 0  # digits


def fuzz(fleet: Fleet, count: int, seed: int, *, say: Callable[[str], None] = lambda line: None) -> Fuzzed:
    """Send `count` spoilt messages on each lane, and as many in plain JSON where that is taken, to a fleet of CREW.

    With each hundred of each kind goes a message for every task that is whole, and at its limits; after them an honest
    caller has a small job and a large one embedded, asks for its jobs and looks a digit up. Raises what it raises, if
    it is not answered within 10 s each time.
    """
    found, dice = Fuzzed(), random.Random(seed)
    before, client = processes(fleet), Twinvec(fleet.broker.url, answer_timeout=10)
    pictures: dict[str, Any] = {}
    with redis.Redis.from_url(fleet.broker.url) as broker:
        for start in range(0, count, AT_ONCE):
            number = min(AT_ONCE, count - start)
            for lane, tasks in TASKS.items():
                honest = [envelope(dice.choice(tasks), lane, {"limit": 3}) for _ in range(number)]
                broker.lpush(KEY_PREFIX + lane, *(spoil(each, dice) for each in honest))
                found.messages[lane] = found.messages.get(lane, 0) + number
            for lane, tasks in ((lane, tasks) for lane, tasks in PLAIN_TASKS.items() if tasks):
                plain = [plain_envelope(dice.choice(tasks), lane, {"limit": 3}) for _ in range(number)]
                broker.lpush(KEY_PREFIX + lane, *(spoil(each, dice) for each in plain))
                found.messages[lane] += number
            for kind in ASKED:
                if (fields := payload(kind, dice)) is not None:
                    broker.lpush(KEY_PREFIX + kind.lane, json.dumps(envelope(kind.task, kind.lane, fields)))
                    found.messages[kind.lane] += 1
            pictures |= ask_honestly(client, start, found.waits)
            if (start + number) % 1000 == 0:
                say(f"{start + number:,} on each lane, the slowest honest call {max(found.waits):.1f} s")
        lanes = [KEY_PREFIX + lane for lane in LANES]
        fleet.until(lambda: not any(broker.llen(lane) for lane in lanes), "every message taken")
        fleet.until(lambda: broker.hlen(f"{KEY_PREFIX}unacked") == 0, "every message acknowledged")
    fleet.ledger.settled()
    after = processes(fleet)
    logs = [member.log.read_text() for member in fleet.members.values()]
    found.logged = sum(map(len, logs))
    found.raised = [line for log in logs for line in log.splitlines() if "raised unexpected" in line]
    found.died = [name for name, pids in before.items() if after[name] != pids]
    found.verdict, found.sent = judge(fleet, digests(pictures)), len(pictures)
    return found


def ask_honestly(client: Twinvec, seed: int, waits: list[float]) -> dict[str, Any]:
    """What an honest caller does between; the pictures that it had embedded. waits: gets the seconds of each call."""
    small, large = noise(2, seed, prefix=f"{seed}/small/"), noise(20, seed + 1, prefix=f"{seed}/large/")
    calls: list[Callable[[], Any]] = [
        lambda: client.embed(small).wait(timeout=10),
        lambda: client.embed(large).wait(timeout=10),
        client.jobs,
        lambda: client.nearest(key=next(iter(small)), k=1),
    ]
    for call in calls:
        start = time.monotonic()
        call()
        waits.append(time.monotonic() - start)
    return small | large


def processes(fleet: Fleet) -> dict[str, list[int]]:
    """Of each member, and its pool's."""
    return {name: [member.pid, *(child.pid for child in member.pool())] for name, member in fleet.members.items()}


def faxes(fleet: Fleet, count: int) -> tuple[float, int, int]:
    """Seconds for the job that has honest scans of a fax embedded; how many were, and how many were refused."""
    scans = {f"fax/{at}": fax(digit=str(at % 10), seed=at) for at in range(count)}
    start = time.monotonic()
    outcome = Twinvec(fleet.broker.url).embed(scans).wait(timeout=3600)
    return time.monotonic() - start, outcome.succeeded, outcome.failed


@dataclass
class Costly:
    """What one costly picture came to: seconds until it was refused or read, and as what.

    peak: the largest resident size of any process meanwhile; grown: the most that one grew by; both in bytes. waits:
    seconds of the look-ups of an honest caller, begun every 0.2 s; unanswered: those that failed.
    """

    seconds: float
    came_to: str
    peak: int
    grown: int
    waits: list[float]
    unanswered: int

    def __str__(self) -> str:
        return (
            f"{self.came_to} after {self.seconds:.2f} s; the largest process had {self.peak / 1e6:,.0f} MB, "
            f"one grew by {self.grown / 1e6:,.0f} MB; {len(self.waits)} look-ups of an honest caller meanwhile took "
            f"{statistics.median(self.waits):.2f} s (median), {max(self.waits):.2f} s at most, {self.unanswered} failed"
        )


def look_up(fleet: Fleet, picture: bytes, known: str) -> Costly:
    """Look a costly picture up, while an honest caller asks for the neighbours of the key `known`."""

    def ask() -> str:
        try:
            Twinvec(fleet.broker.url).nearest(picture)
        except PictureRefused as refused:
            return f"refused: {str(refused).partition(':')[0]}"
        return "read"

    return beside_honest_caller(fleet, ask, known)


def embed(fleet: Fleet, picture: bytes, known: str, *, beside: int = 20) -> Costly:
    """Have a costly picture embedded with so many honest ones, while an honest caller asks as in `look_up`."""

    def ask() -> str:
        sent = {f"beside/{time.monotonic_ns()}/{key}": each for key, each in noise(beside).items()}
        job = Twinvec(fleet.broker.url).embed({**sent, "costly": picture})
        outcome = job.wait(timeout=600)
        refused = ", ".join(failure.reason for failure in job.failures())
        return f"{outcome.succeeded} embedded, refused: {refused or 'none'}"

    return beside_honest_caller(fleet, ask, known)


def beside_honest_caller(fleet: Fleet, ask: Callable[[], str], known: str) -> Costly:
    family = [process for member in fleet.members.values() for process in member.family()]
    before = {process.pid: process.memory_info().rss for process in family}
    for process in family:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak is what it has now
    with honest_caller(fleet, known) as (waits, unanswered):
        start = time.monotonic()
        came_to = ask()
        seconds = time.monotonic() - start
    peaks = {process.pid: peak(process) for process in family}
    grown = max(most - before[pid] for pid, most in peaks.items())
    return Costly(seconds, came_to, max(peaks.values()), grown, waits, len(unanswered))


@contextmanager
def honest_caller(fleet: Fleet, known: str) -> Iterator[tuple[list[float], list[str]]]:
    """Looks up a key every 0.2 s while the block runs, and once after it: seconds that each took, and what failed."""
    waits: list[float] = []
    failed: list[str] = []
    ended, client = threading.Event(), Twinvec(fleet.broker.url, answer_timeout=30)

    def ask() -> None:
        start = time.monotonic()
        try:
            client.nearest(key=known, k=1)
        except TwinvecError as error:
            failed.append(str(error))
        waits.append(time.monotonic() - start)

    def work() -> None:
        while not ended.is_set():
            asking = threading.Thread(target=ask)
            asking.start()
            asked.append(asking)
            ended.wait(EVERY)

    asked: list[threading.Thread] = []
    asks = threading.Thread(target=work)
    asks.start()
    try:
        yield waits, failed
    finally:
        ended.set()
        asks.join()
        for asking in asked:
            asking.join()
