"""Half of the digits are deleted while they are embedded, retried, backfilled and sent again, and workers killed."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from db.engine import transact
from db.vectors import lifecycle
from tests.chaos.fleet import Fleet
from tests.chaos.killing import SECONDS, Killer
from tests.chaos.oracle import extra_work, judge, recoveries
from tests.chaos.pictures import digests, noise
from tests.chaos.result import Result
from tests.makers import trained
from twinvec_client import Deleted, EmbedJob, Twinvec
from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer, UnknownKey

LONG: dict[str, Any] = {"digits": 50_000, "kills": 60, "looked_for": 500}
SHORT: dict[str, Any] = {"digits": 1_024, "kills": 3, "looked_for": 20}

WEIGHTS = {"embedder-1": 0.3, "embedder-2": 0.3, "intake": 0.2, "front": 0.2}
BLANK = 40  # pictures without a digit, whose bytes their failures keep
OUTAGES = (NoAnswer, BrokerUnavailable, DatabaseUnavailable)


def run(*, digits: int, kills: int, looked_for: int) -> Result:
    """looked_for: how many of the deleted are asked for one by one at the end."""
    result = Result(case=24, name="deleted meanwhile", faults="", images=digits)
    pictures: dict[str, Any] = noise(digits)
    blank = {f"blank/{at}": np.zeros((28, 28), np.uint8) for at in range(BLANK)}
    sent = dict(list(blank.items()) + list(pictures.items()))
    doomed = list(sent)[::2]
    with Fleet() as fleet:
        fleet.injection.slow_down(SECONDS)
        killer = Killer(fleet, WEIGHTS, kills=kills, every=1.5)
        sending = fleet.application.embedding(sent, key="all", pace=killer.pace(len(sent)))
        deleting = Deleting(fleet, doomed)
        backfilling = threading.Thread(target=begin_backfill, args=(fleet, digits // 3), daemon=True)
        backfilling.start()
        killer.run()
        job = sending.result(within=600)
        total = deleting.end(within=600)
        backfilling.join(60)
        retried = retry(fleet, job)
        fleet.ledger.settled(job, retried, within=600)
        again = fleet.application.embed(sent, key="all")  # as an application does that was not told of its end
        fleet.ledger.settled(again, within=600)
        dead = {
            row.key: "deleted"
            for row in fleet.ledger.rows("SELECT key FROM failures WHERE reason = 'deleted'")
            if row.key in set(doomed)
        }
        kept = {key: digest for key, digest in digests(pictures).items() if key not in set(doomed)}
        judge(fleet, kept, failing=dead | dict.fromkeys(blank, "blank")).write(result)
        look_for(fleet, result, doomed[BLANK // 2 :], pictures, looked_for)
        result.recovery, result.extra_work = recoveries(fleet), extra_work(fleet)
        sent_again = fleet.ledger.one("SELECT total FROM jobs WHERE id = :id", id=retried)
        towers = fleet.ledger.one("SELECT count(DISTINCT tower) FROM embeddings")
    result.require(sent_again == BLANK // 2, f"a retry sent {sent_again} pictures, and {BLANK // 2} were not deleted")
    result.require(0 < len(dead) < len(doomed) - BLANK // 2, "nothing was deleted before, or after, it had a vector")
    result.require(towers == 2, f"there are vectors under {towers} towers")
    result.require(total.left == 0, f"{total.left} of the deleted were found after their deletion")
    result.faults = f"{killer.done.total()} kill -9"
    result.note = (
        f"{total.digits:,} of {len(sent):,} deleted, {len(dead):,} of them before they had a vector, with "
        f"{total.vectors:,} vectors and {total.pictures:,} pictures that failures had kept; none came back by itself, "
        f"by a retry or by sending all of them again"
    )
    return result


class Deleting(threading.Thread):
    """Deletes keys some at a time: half as soon as they are stored, half once they have a vector; all at the end."""

    DUE = """
        SELECT key FROM digits
        WHERE key < :early OR EXISTS (SELECT FROM embeddings WHERE digit = digits.id)
    """

    def __init__(self, fleet: Fleet, keys: Sequence[str]) -> None:
        super().__init__(name="deleting", daemon=True)
        self._fleet, self._left, self._whole = fleet, set(keys), threading.Event()
        self._total, self._error = Deleted(0, 0, 0, 0), None
        self.start()

    def run(self) -> None:
        client, early = self._fleet.application.client(), sorted(self._left)[len(self._left) // 2]
        while self._left:
            last = self._whole.is_set()
            due = {row.key for row in self._fleet.ledger.rows(self.DUE, early=early)}
            some = sorted(self._left if last else self._left & due)
            for start in range(0, len(some), 100):
                with suppress(*OUTAGES):
                    gone = client.delete(some[start : start + 100])
                    self._total = replace(self._total + gone, left=self._total.left + gone.left)
                    self._left -= set(some[start : start + 100])
            time.sleep(0.1)

    def end(self, within: float) -> Deleted:
        """What went, once nothing of it is to come any more."""
        self._whole.set()
        self.join(within)
        assert not self.is_alive(), f"{len(self._left)} are not deleted after {within:g} s"
        return self._total


def begin_backfill(fleet: Fleet, at: int) -> None:
    """Register a second tower once so many digits are embedded: those that are stored are backfilled."""
    fleet.until(lambda: fleet.ledger.reaches(at), "a third of the job", within=600)
    transact(fleet.engine, lifecycle.register, trained("second"))


def retry(fleet: Fleet, id: str) -> str:
    """Send again what failed and can be; the id of that job."""
    job = fleet.application.client().job(id)
    assert isinstance(job, EmbedJob)
    while True:
        with suppress(*OUTAGES):
            return job.retry().id


def look_for(fleet: Fleet, result: Result, doomed: Sequence[str], pictures: dict[str, Any], count: int) -> None:
    """Require that some of the deleted are found neither by key nor by picture, and none is stored."""
    client = Twinvec(fleet.broker.url)
    stored = {row.key for row in fleet.ledger.rows("SELECT key FROM digits")}
    result.require(not stored & set(doomed), f"{len(stored & set(doomed))} of the deleted are stored")
    for key in doomed[:: max(len(doomed) // count, 1)]:
        try:
            found = client.nearest(key=key, k=1)
        except UnknownKey:
            found = client.nearest(pictures[key], k=3)
        near = [each.key for each in found if each.key in set(doomed)]
        result.require(not near, f"{near} were found, and had been deleted")
