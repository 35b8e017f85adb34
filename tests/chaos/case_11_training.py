"""Trainings that are asked for twice at once, and killed on the way: one tower each, and never half a one."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.fleet import Fleet
from tests.chaos.oracle import left_open
from tests.chaos.result import Result
from tests.makers import together
from twinvec_client import TrainingJob, TrainingRunning

POINTS = ("claimed", "under-way", "fitted", "registered", "committed")
LONG: dict[str, Any] = {"points": POINTS}
SHORT: dict[str, Any] = {"points": ("registered",)}

CREW = {"front": "query,control", "trainer": "train", "beat": ""}
SETTINGS = {"TWINVEC_DATA": str(Path(__file__).parents[1] / "data" / "mnist-sample.npz")}
SECONDS = 240  # that a training may take which is killed once and started over


def run(*, points: tuple[str, ...]) -> Result:
    result = Result(case=11, name="trainings killed, and two at once", faults="")
    deaths = 0
    with Fleet(CREW, settings=SETTINGS, tower=None) as fleet:
        for seed, point in enumerate(points):
            fleet.injection.arm(f"training-{point}", 1)
            job = one_of_two(fleet, result, seed)
            (death,) = fleet.until(partial(fleet.injection.noted, f"training-{point}"), "a death", within=SECONDS)
            deaths += 1
            # Its lease holds for a while: no worker has started the training over yet.
            there = seed + (point == "committed")
            result.require(towers(fleet) == there, f"{towers(fleet)} towers after a death at {point}: {there} expected")
            outcome = job.wait(timeout=SECONDS)
            whole(fleet, result, seed, point, job, outcome.tower)
            ended = fleet.ledger.one("SELECT extract(epoch FROM ended_at) FROM jobs WHERE id = :id", id=job.id)
            result.recovery.append(max(0.0, float(ended) - death.at))
        result.problems += left_open(fleet)
        attempts = fleet.ledger.rows("SELECT attempt FROM batches ORDER BY id")
    expected = [1 if point == "committed" else 2 for point in points]
    result.require([row.attempt for row in attempts] == expected, f"the trainings took {attempts} attempts")
    result.faults = f"{deaths} killed, {len(points)} times two at once"
    result.note = f"killed when {', '.join(points)}; as many whole towers; of two at once one was refused each time"
    return result


def one_of_two(fleet: Fleet, result: Result, seed: int) -> TrainingJob:
    """Ask for two trainings at the same moment; the one that is not refused."""

    def ask() -> TrainingJob | TrainingRunning:
        try:
            return fleet.application.client().train(recipe="quick", seed=seed)
        except TrainingRunning as refused:
            return refused

    answers = together(ask, ask, seconds=60)
    jobs = [answer for answer in answers if isinstance(answer, TrainingJob)]
    refusals = [answer for answer in answers if isinstance(answer, TrainingRunning)]
    result.require(len(jobs) == len(refusals) == 1, f"of two trainings at once {len(jobs)} were taken")
    result.require(all(jobs[0].id in str(refusal) for refusal in refusals), f"refused with {refusals}")
    return jobs[0]


def whole(fleet: Fleet, result: Result, before: int, point: str, job: TrainingJob, tower: int) -> None:
    """Require that the training left one more tower, the one that it tells of, with all that belongs to it."""
    result.require(towers(fleet) == before + 1, f"{towers(fleet)} towers after {before + 1} trainings ({point})")
    row = fleet.ledger.rows("SELECT file, file_digest, fingerprint, status FROM towers WHERE id = :id", id=tower)[0]
    result.require(hashlib.sha256(row.file).digest() == row.file_digest, f"tower {tower} has not the file it should")
    result.require(fingerprint_of(row.file) == row.fingerprint, f"tower {tower} has not the weights it should")
    fleet.until(lambda: live(fleet) == [tower], f"tower {tower} live, alone", within=30)
    result.require(job.status().state == "finished", f"training {job.id} is {job.status().state}")


def towers(fleet: Fleet) -> int:
    return int(fleet.ledger.one("SELECT count(*) FROM towers"))


def live(fleet: Fleet) -> list[int]:
    return [row.id for row in fleet.ledger.rows("SELECT id FROM towers WHERE status = 'live'")]


def fingerprint_of(file: bytes) -> str:
    """Of the weights in a tower's file, loaded as a worker loads it."""
    from training.model.storage import fingerprint, load  # noqa: PLC0415  # TensorFlow, for this case only

    return fingerprint(load(file))
