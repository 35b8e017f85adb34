"""A retraining from start to promotion, while a bulk job runs and queries are asked, and all is killed in turn."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.application import Application
from tests.chaos.case_04_database import Share
from tests.chaos.fleet import CREW as PLAIN_CREW
from tests.chaos.fleet import Fleet
from tests.chaos.injected.matrix import Array, product
from tests.chaos.oracle import judge
from tests.chaos.pictures import Pictures, digests, noise, sample
from tests.chaos.result import Result
from tests.makers import together
from twinvec_client import Answer, JobStatus, TrainingJob, TrainingRunning
from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer, TwinvecError

POINTS = ("claimed", "kept", "fitted", "registered", "committed")  # of the training, at which its worker dies
LONG: dict[str, Any] = {"digits": 10_000, "points": POINTS, "rounds": 4}
SHORT: dict[str, Any] = {"digits": 600, "points": ("kept",), "rounds": 1}

DATA = Path(__file__).parents[1] / "data" / "mnist-sample.npz"
SETTINGS = {"TWINVEC_DATA": str(DATA)}
CREW = {**PLAIN_CREW, "trainer": "train"}
SECONDS = 300  # that a step may take
ANSWERED_WITHIN = 60  # seconds for a query, whatever is done meanwhile


def run(*, digits: int, points: tuple[str, ...], rounds: int) -> Result:
    """digits: stored before, and as many that come meanwhile. rounds: of kills after the training."""
    result = Result(case=23, name="retrained while all are killed", faults="", images=2 * digits)
    before, meanwhile = sample(digits), noise(digits, prefix="bulk/")
    with Fleet(CREW, settings=SETTINGS) as fleet:
        fleet.ledger.settled(fleet.application.embed(before))
        give_labels(fleet, before)
        asking, watching = Asking(fleet.application, before), Watching(fleet, digits)
        share = Share(digits)
        bulk = fleet.application.embedding(meanwhile, collection="bulk", pace=share.wait)
        for point in points:
            fleet.injection.arm(f"training-{point}", 1)
        job = one_of_two(fleet, result)
        for at, point in enumerate(points):
            share.grow((at + 1) / len(points) / 2)
            kill_training(fleet, point)
        fleet.until(lambda: not trains(fleet, job), "the candidate", within=SECONDS)
        for at in range(rounds):
            share.grow((1 + (at + 1) / rounds) / 2)
            kill_all(fleet)
        status = ended(fleet, job)
        fleet.ledger.settled(bulk.result(SECONDS), within=SECONDS)
        asking.end()
        watching.end()
        result.problems += asking.problems + watching.problems
        check(fleet, result, job, status, asking)
        for collection, pictures in (("default", before), ("bulk", meanwhile)):
            judge(fleet, digests(pictures), collection=collection).write(result)
        resumed = fleet.ledger.one("SELECT metrics -> 'resumed_after_epoch' FROM towers ORDER BY id DESC LIMIT 1")
        result.require(resumed, "the training began anew, where it had kept an epoch")
    kills = len(fleet.faults.noted) + len(points) - points.count("kept")
    result.faults = f"{kills} killed or restarted: every process, broker, database"
    result.note = (
        f"the training was killed when {', '.join(points)}, and went on after epoch {resumed}; {asking.count:,} "
        f"queries, {asking.again} of them asked again, the longest answered after {asking.longest:.1f} s; counted "
        f"{watching.count:,} times how many of {digits:,} digits had a vector under the live tower"
    )
    return result


def give_labels(fleet: Fleet, pictures: Pictures) -> None:
    """Label the digits of the sample as it does."""
    with np.load(DATA) as arrays:
        labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    named = {key: int(labels[at % len(labels)]) for at, key in enumerate(pictures)}
    assert fleet.application.client(answer_timeout=SECONDS).label(named) == []


def one_of_two(fleet: Fleet, result: Result) -> TrainingJob:
    """Ask for two retrainings at the same moment; the one that is not refused."""

    def ask() -> TrainingJob | TrainingRunning:
        try:
            return fleet.application.client(answer_timeout=SECONDS).retrain(data="both", seed=1)
        except TrainingRunning as refused:
            return refused

    answers = together(ask, ask, seconds=SECONDS)
    (job,) = [answer for answer in answers if isinstance(answer, TrainingJob)]
    (refusal,) = [answer for answer in answers if isinstance(answer, TrainingRunning)]
    result.require(job.id in str(refusal), f"the other one was refused with {refusal}")
    return job


def kill_training(fleet: Fleet, point: str) -> None:
    """Wait until the trainer has died at a point; kill it at `kept`, when an epoch or more are in the ledger."""
    if point == "kept":
        fleet.until(lambda: len(fleet.injection.noted("epochs-kept")) > 1, "two epochs", within=SECONDS)
        fleet.faults.kill("trainer")
    else:
        fleet.until(partial(fleet.injection.noted, f"training-{point}"), f"a death at {point}", within=SECONDS)


def kill_all(fleet: Fleet) -> None:
    """Kill each process once, the broker and the database, while something may be to backfill, judge or promote."""
    fleet.injection.slow_down(0.5)
    fleet.until(lambda: embedding(fleet) or not backfilling(fleet), "a batch of the backfill", within=SECONDS)
    fleet.faults.kill("embedder-1")
    fleet.injection.slow_down(0)
    fleet.faults.stop_database()
    fleet.database.start()
    fleet.faults.kill("embedder-2", "child")
    fleet.faults.kill("front")
    fleet.faults.kill_broker()
    fleet.faults.kill("beat")
    fleet.faults.kill("intake", "parent")
    fleet.await_ready()


def trains(fleet: Fleet, job: TrainingJob) -> bool:
    """Whether its tower is still to come; from the ledger alone: the front may be dead."""
    query = "SELECT outcome IS NULL AND ended_at IS NULL FROM jobs WHERE id = :id"
    return bool(fleet.ledger.one(query, id=job.id))


def backfilling(fleet: Fleet) -> bool:
    return bool(fleet.ledger.one("SELECT count(*) FROM jobs WHERE kind = 'backfill' AND ended_at IS NULL"))


def embedding(fleet: Fleet) -> bool:
    """Whether a worker holds a batch of a backfill."""
    query = "SELECT count(*) FROM batches JOIN jobs ON jobs.id = job WHERE kind = 'backfill' AND state = 'leased'"
    return bool(fleet.ledger.one(query))


def ended(fleet: Fleet, job: TrainingJob) -> JobStatus:
    query = "SELECT ended_at FROM jobs WHERE id = :id"
    fleet.until(lambda: fleet.ledger.one(query, id=job.id), "the end of the retraining", within=SECONDS)
    status: JobStatus = fleet.until(partial(once_more, job.status), "its status")
    return status


def once_more(ask: Any) -> Any:
    """What a client is answered; None where it is to ask again."""
    try:
        return ask()
    except (NoAnswer, BrokerUnavailable, DatabaseUnavailable):
        return None


def check(fleet: Fleet, result: Result, job: TrainingJob, status: JobStatus, asking: "Asking") -> None:
    """Require that the retraining ended with its tower live, and every digit with one vector under it."""
    result.require(status.state == "finished", f"the retraining {job.id} is {status.state}: {status.message}")
    live = fleet.ledger.rows("SELECT id, fingerprint, lineage FROM towers WHERE status = 'live'")
    result.require([row.id for row in live] == [(status.outcome or {}).get("tower")], f"{live} are live")
    counts = "SELECT count(*), count(DISTINCT digit) FROM embeddings WHERE tower = :tower"
    vectors, of_digits = fleet.ledger.rows(counts, tower=live[0].id)[0]
    stored = fleet.ledger.one("SELECT count(*) FROM digits")
    result.require(vectors == of_digits == stored, f"{vectors} vectors of {of_digits} digits, {stored} stored")
    result.require(live[0].fingerprint in asking.towers, "no query was answered under the new tower")
    result.require(len(asking.towers) == 2, f"queries were answered under {len(asking.towers)} towers")
    result.require(live[0].lineage["stored_labels"] > 0, "no stored label was learnt from")


class Watching(threading.Thread):
    """Counts again and again how many of the digits of a collection have a vector under the live tower: all of them."""

    QUERY = """
        SELECT count(*) FROM digits JOIN embeddings ON digit = digits.id JOIN towers ON towers.id = tower
        WHERE collection = 'default' AND status = 'live'
    """

    def __init__(self, fleet: Fleet, digits: int) -> None:
        super().__init__(name="watching", daemon=True)
        self.problems: list[str] = []
        self.count = 0
        self._fleet, self._digits, self._ending = fleet, digits, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.1):
            found = self._fleet.ledger.one(self.QUERY)
            self.count += 1
            if found != self._digits:
                self.problems.append(f"{found} of {self._digits} stored digits had a vector under the live tower")

    def end(self) -> None:
        self._ending.set()
        self.join()
        self.problems = self.problems[:3]


class Asking(threading.Thread):
    """Asks for the neighbours of one stored digit after another, by picture and by key, and checks each answer.

    towers: fingerprints of those that answered. again: queries that were asked again. longest: seconds to an answer.
    """

    def __init__(self, application: Application, pictures: Mapping[str, Array]) -> None:
        super().__init__(name="asking", daemon=True)
        self.problems: list[str] = []
        self.towers: set[str] = set()
        self.count = self.again = 0
        self.longest = 0.0
        self._client, self._pictures, self._ending = application.client(), pictures, threading.Event()
        self.start()

    def run(self) -> None:
        keys = list(self._pictures)
        while not self._ending.wait(0.02) and len(self.problems) < 3:
            key = keys[self.count * 7 % len(keys)]
            try:
                answer = self._ask(key, by_picture=self.count % 2 == 0)
            except TwinvecError as error:
                self.problems.append(f"a query failed for good: {type(error).__name__}: {error}")
            else:
                self._check(key, answer, by_picture=self.count % 2 == 0)
            self.count += 1

    def end(self) -> None:
        """Once a query was asked that began after now."""
        count, deadline = self.count, time.monotonic() + ANSWERED_WITHIN
        while self.is_alive() and self.count < count + 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        self._ending.set()
        self.join()

    def _ask(self, key: str, *, by_picture: bool) -> Answer:
        given: dict[str, Any] = {"picture": self._pictures[key]} if by_picture else {"key": key}
        begun, tries = time.monotonic(), 0
        while True:
            try:
                answer = self._client.nearest(**given, k=5, collection="default")
                break
            except (NoAnswer, BrokerUnavailable, DatabaseUnavailable):
                tries += 1
                if time.monotonic() > begun + ANSWERED_WITHIN:
                    raise
        self.again += tries > 0
        self.longest = max(self.longest, time.monotonic() - begun)
        return answer

    def _check(self, key: str, answer: Answer, *, by_picture: bool) -> None:
        """Its distances are those of one space, and a stored picture finds itself."""
        self.towers.add(answer.tower)
        own = product(1, self._pictures[key][None])[0]
        others = product(1, np.stack([self._pictures[each.key] for each in answer.neighbours]))
        right = np.linalg.norm(others - own, axis=1)  # towers that stand in have the same distances
        found = np.array([each.distance for each in answer.neighbours])
        if len(found) != 5 or not np.allclose(found, right, atol=1e-3):
            self.problems.append(f"under {answer.tower:.12} {key} was answered {found}, and {right} is right")
        if by_picture and not found[0] < 1e-3:
            self.problems.append(f"the stored picture {key} was not found: the nearest is {found[0]} away")
