"""kill -9 of worker processes, parents and pool processes alike, all through a job of real digits."""

from typing import Any

from tests.chaos.application import CHUNK
from tests.chaos.callback import CALLBACK, require_calls
from tests.chaos.fleet import CREW, Fleet
from tests.chaos.killing import SECONDS, Killer
from tests.chaos.oracle import extra_work, judge, recoveries
from tests.chaos.pictures import Pictures, digests, real, sample
from tests.chaos.result import Result

LONG: dict[str, Any] = {"digits": 50_000, "kills": 200, "of_real_tower": 20}
SHORT: dict[str, Any] = {"digits": 2_048, "kills": 6, "of_real_tower": 0}

WEIGHTS = {"embedder-1": 0.35, "embedder-2": 0.35, "intake": 0.15, "front": 0.15}
MOST_EXTRA = 0.25
ONLY_CONTROL = {**CREW, "front": "control"}  # a front that answers queries would load TensorFlow too


def run(*, digits: int, kills: int, of_real_tower: int) -> Result:
    """of_real_tower: how many of the kills hit workers with TensorFlow; their share of the digits is the same."""
    result = Result(case=1, name="workers killed", faults="", images=digits)
    pictures = list((real(digits) if of_real_tower else sample(digits)).items())
    share = digits * of_real_tower // kills
    killers = [stand_in(dict(pictures[share:]), kills - of_real_tower, result)]
    notes = [f"{CHUNK} digits a batch, {SECONDS:g} s each"]
    if of_real_tower:
        killers.append(real_tower(dict(pictures[:share]), of_real_tower, result))
        notes.append(f"{of_real_tower} of the kills with the real tower, the others with a matrix product")
    result.faults = f"{sum(killer.done.total() for killer in killers)} kill -9"
    by_kind = [f"{sum(killer.done[what] for killer in killers)} {name}" for what, name in Killer.KINDS.items()]
    notes += [f"killed {', '.join(by_kind)}", f"{len(result.recovery)} of the dead held a batch"]
    notes.append(f"{len(killers)} jobs called the application back {result.calls} times")
    if result.resubmissions:
        notes.append(f"the client, left without an answer, sent its job again {result.resubmissions} times")
    result.note = "; ".join(notes)
    extra_work = result.extra_work or 0.0
    result.require(extra_work <= MOST_EXTRA, f"extra work {extra_work:.1%}, above {MOST_EXTRA:.0%}")
    return result


def stand_in(pictures: Pictures, kills: int, result: Result) -> Killer:
    with Fleet() as fleet:
        fleet.injection.slow_down(SECONDS)
        killer = Killer(fleet, WEIGHTS, kills=kills, every=1.2)
        job = under_fire(fleet, killer, pictures, result)
        judge(fleet, digests(pictures)).write(result)
        require_calls(fleet, result, job)
    return killer


def real_tower(pictures: Pictures, kills: int, result: Result) -> Killer:
    from training.model.embedder import Embedder  # noqa: PLC0415  # TensorFlow, for this part alone
    from training.model.storage import load  # noqa: PLC0415  # TensorFlow, for this part alone

    with Fleet(ONLY_CONTROL, tower="real") as fleet:
        killer = Killer(fleet, WEIGHTS, kills=kills, every=5)
        job = under_fire(fleet, killer, pictures, result)
        embedder = Embedder(load(fleet.ledger.one("SELECT file FROM towers WHERE status = 'live'")))
        judge(fleet, digests(pictures), reference=lambda tower, pixels: embedder(pixels)).write(result)
        require_calls(fleet, result, job)
    return killer


def under_fire(fleet: Fleet, killer: Killer, pictures: Pictures, result: Result) -> str:
    """Send the pictures while the killer is at work, and wait for the end; the job's id."""
    sending = fleet.application.embedding(pictures, pace=killer.pace(len(pictures)), on_finish=CALLBACK)
    killer.run()
    job = sending.result(within=300)
    fleet.ledger.settled(job, within=300)
    result.recovery += recoveries(fleet)
    result.extra_work = max(result.extra_work or 0.0, extra_work(fleet))
    result.resubmissions += fleet.application.resubmissions
    return job
