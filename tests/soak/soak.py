"""The soak: a stack at a tenth of its full load for an hour, a process of it killed every minute, and looked at."""

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from cli.doctor import broker, database, lanes, storage
from cli.doctor.finding import PROBLEM
from tests.chaos.injected.matrix import product
from tests.chaos.member import send
from tests.chaos.oracle import SHOWN, Reference, judge
from tests.chaos.waiting import until
from tests.soak.load import ABANDONED, CANCELLED, DAMAGED, REASONS, Load
from tests.soak.samples import Numbers, sample
from tests.soak.stack import STEADY, Killer, Stack
from worker.settings import Settings

WORKS_WITHIN = 60.0  # seconds from a kill until what was killed works again
MINUTE = 1 / (24 * 60)  # days, in which the settings say how long something is kept

NONE: Mapping[str, str] = MappingProxyType({})

Array = np.ndarray[Any, Any]


@dataclass(kw_only=True)
class Soak:
    """What was seen. every: seconds between two samples. keys: of digits that are sent again and again.

    keep: minutes that ended jobs are kept. full_load, rate: digits a second.
    """

    every: float
    keep: float
    warm_up: float  # minutes, the samples of which are not judged
    keys: int
    steady: list[str] = field(default_factory=lambda: list(STEADY))  # workers that nobody kills
    full_load: float = 0.0
    rate: float = 0.0
    started: float = 0.0  # seconds since 1970; when the load began
    seconds: float = 0.0
    samples: list[Numbers] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    recovery: list[float] = field(default_factory=list)  # seconds from a kill until what was killed works again
    towers: int = 0  # trained, and live
    lost: int | None = None
    twice: int | None = None
    wrong: int | None = None
    doctor: list[str] = field(default_factory=list)  # the problems that it told of
    problems: list[str] = field(default_factory=list)

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Self:
        return cls(**json.loads(file.read_text()))

    def require(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)


def run(digits: Array, *, every: float, keep: float, settings: Mapping[str, str] = NONE, **how: Any) -> Soak:
    """Start a stack and soak it; see `soaked`."""
    with Stack({**kept(keep=keep, abandoned=2 * every), **settings}) as stack:
        return soaked(stack, digits, every=every, keep=keep, **how)


def kept(*, keep: float, abandoned: float) -> dict[str, str]:
    """Settings. keep: minutes that ended jobs and the files of retired towers are kept. abandoned: seconds."""
    return {
        "TWINVEC_KEEP_JOBS": f"{keep * MINUTE}",
        "TWINVEC_KEEP_PICTURES": f"{keep / 2 * MINUTE}",
        "TWINVEC_KEEP_TOWERS": f"{keep * MINUTE}",
        "TWINVEC_ABANDONED_AFTER": f"{abandoned}",
        "TWINVEC_JUDGE_TOLERANCE": "1",  # each tower goes live: that they change is what is tried
    }


def soaked(
    stack: Stack,
    digits: Array,
    *,
    minutes: float,
    every: float,
    keep: float,
    trainings: float,
    warm_up: float,
    say: Callable[[Soak], None] = lambda soak: None,
) -> Soak:
    """What became of a stack under load. digits: (n, 28, 28) uint8, one a key. every: seconds between two kills.

    keep: minutes that its settings keep an ended job. trainings: seconds between two. warm_up: minutes that are not
    judged. say: is given what is there so far.
    """
    soak = Soak(every=every, keep=keep, warm_up=warm_up, keys=len(digits), steady=list(stack.steady))
    load = Load(stack.broker_url, digits)
    if not stack.stand_in:
        load.train(0)
    soak.full_load = load.begin()
    soak.rate = load.rate
    load.start(trainings=trainings, cancels=every)
    before = {name: member.pid for name, member in stack.steady.items()}
    killer, start, soak.started = Killer(stack), time.monotonic(), time.time()
    for turn in range(1, round(60 * minutes / every) + 1):
        victim, killed_at = killer.kill(), time.monotonic()
        _see_it_work(soak, stack, victim)
        soak.recovery.append(time.monotonic() - killed_at)
        time.sleep(max(0.0, start + turn * every - time.monotonic()))
        soak.doctor += [f"{turn * every:.0f} s after the start: {said}" for said in _doctor(stack)]
        soak.samples.append(sample(stack, load))
        soak.kills, soak.seconds = killer.done, time.monotonic() - start
        soak.counts = dict(load.counts)
        say(soak)
    require_doctor_sees(soak, stack, *(name for name, lanes in stack.lanes.items() if "intake" in lanes.split(",")))
    load.stop()
    soak.counts, soak.towers = dict(load.counts), len(load.towers)
    soak.problems += [*load.problems, *(f"doctor, {said}" for said in soak.doctor)]
    after = {name: member.pid for name, member in stack.steady.items()}
    soak.require(before == after, f"workers that nobody killed died: {before} became {after}")
    judge_stored(soak, stack, load.sent, load.damaged)
    return soak


def _see_it_work(soak: Soak, stack: Stack, victim: str) -> None:
    try:
        until(lambda: stack.works(victim), f"{victim}, which was killed", within=WORKS_WITHIN)
    except AssertionError as error:
        soak.problems.append(str(error))


def _doctor(stack: Stack) -> list[str]:
    """What `twinvec doctor` calls a problem, asked in a process of its own, as it is when it is a command."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_problems, stack.broker_url, stack.database_url, stack.settings).result()


def _problems(broker_url: str, database_url: str, settings: Settings) -> list[str]:
    """Of broker, database, storage and lanes; what it says of the machine is the same at any time, and costs more."""
    found = list(broker.broker(broker_url))
    with database.reached(database_url) as (of_database, connection):
        found += of_database
        found += storage.storage(connection, settings)
        found += lanes.findings(lanes.lanes(broker_url), connection)
    return [f"{each.part}: {each.found}" for each in found if each.level == PROBLEM]


def require_doctor_sees(soak: Soak, stack: Stack, *frozen: str) -> None:
    """Stop all workers of a lane for as long as `doctor` takes; it must say so."""
    processes = [process for name in frozen for process in stack.family(name)]
    send(processes, signal.SIGSTOP)
    try:
        said = _doctor(stack)
    finally:
        send(processes, signal.SIGCONT)
    soak.require(any("intake" in line for line in said), f"intake stood still, and doctor said {said or 'no problem'}")


def judge_stored(soak: Soak, stack: Stack, sent: Mapping[str, Mapping[str, bytes]], damaged: Sequence[str]) -> None:
    """Ask the database what was lost, stored twice, or wrong. sent, damaged: as `Load` has them."""
    remembered = {str(row.id) for row in stack.ledger.rows("SELECT id FROM jobs WHERE collection = :c", c=DAMAGED)}
    reference = product if stack.stand_in else _embedded(stack)
    soak.lost = soak.twice = soak.wrong = 0
    for collection, digests in sent.items():
        verdict = judge(
            stack,
            digests,
            failing=REASONS if collection == DAMAGED and remembered & set(damaged) else None,
            collection=collection,
            reference=reference,
            cancelled=collection in (CANCELLED, ABANDONED),
        )
        soak.lost += len(verdict.lost)
        soak.twice += len(verdict.duplicated)
        soak.wrong += len(verdict.wrong)
        soak.problems += [f"{collection}: {fault}" for fault in verdict.faults]
        for what in ("lost", "duplicated", "wrong"):
            if keys := getattr(verdict, what):
                soak.problems.append(f"{collection}: {len(keys)} {what}: {', '.join(sorted(keys)[:SHOWN])}")


def _embedded(stack: Stack) -> Reference:
    from tests.soak.towers import embedded  # noqa: PLC0415  # TensorFlow, which would weigh on what is measured

    return embedded(stack.engine)
