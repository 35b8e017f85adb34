"""Any history of submits, claims, deaths, rescues, refusals, cancels, lost clients and prunings adds up.

A model in plain Python says what the ledger must hold after every step.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, text

from db.errors import LeaseLost, UnknownJob
from db.queue import leases
from db.queue.abandon import abandon
from db.queue.cancel import cancel_job
from db.queue.failures import FailedItem
from db.queue.intake import Item
from db.queue.leases import Lease
from db.tables import Batch
from db.vectors import towers
from tests.makers import (
    Ledger,
    age,
    claim,
    expire,
    failures,
    finish,
    glyph,
    item,
    prune,
    register,
    rescue,
    send,
    states,
    status,
    stored,
    vector,
    vectors,
)

KEYS = st.sampled_from("abcdef")
SEEDS = st.integers(0, 2)


@dataclass
class Sent:
    """What the model knows of a job."""

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    seq: int = 0
    pictures: int = 0
    closed: bool = False
    cancelled: bool = False
    abandoned: bool = False
    last: tuple[list[Item], dict[str, Any]] | None = None  # the chunk that was sent last, to send it again


class Bookkeeping(RuleBasedStateMachine):
    """Digits are those whose key was sent last; their fates are the ledger's to tell, and must be consistent."""

    ledger: Ledger

    @initialize()
    def clean(self) -> None:
        tables = "failures, batches, embeddings, digits, jobs RESTART IDENTITY"
        self.ledger(lambda session: session.execute(text(f"TRUNCATE {tables} CASCADE")))
        self.jobs = [Sent() for _ in range(3)]
        self.leases: list[Lease] = []
        self.lost: list[Lease] = []
        self.gone: set[uuid.UUID] = set()  # pruned jobs

    @rule(
        at=st.integers(0, 2),
        pictures=st.lists(st.tuples(KEYS, SEEDS), max_size=5),
        refused=st.lists(KEYS, max_size=2),
        last=st.booleans(),
    )
    def submit(self, at: int, pictures: list[tuple[str, int]], refused: list[str], last: bool) -> None:
        job = self.jobs[at]
        if job.closed:
            return
        job.pictures += len(pictures) + len(refused)
        job.last = (
            [item(key, seed) for key, seed in pictures],
            {
                "job": job.id,
                "seq": job.seq,
                "failures": [FailedItem(key, "damaged", "half a file", None) for key in refused],
                "open": not last,
                "total": job.pictures,
            },
        )
        job.seq, job.closed, job.abandoned = job.seq + 1, last, False
        self.again(at)
        if job.cancelled:
            return
        there = stored(self.ledger)
        assert {key for key, _ in pictures} <= set(there), "a key that was sent is not stored"
        assert set(there.values()) <= {glyph(seed) for seed in range(3)}

    @rule(at=st.integers(0, 2))
    def again(self, at: int) -> None:
        if (last := self.jobs[at].last) is not None:
            items, fields = last
            send(self.ledger, *items, **fields)

    @rule(choice=st.integers(0))
    def take(self, choice: int) -> None:
        query = select(Batch.id).where(Batch.state == "queued").order_by(Batch.id)
        if queued := self.ledger(lambda session: session.execute(query).scalars().all()):
            lease = claim(self.ledger, queued[choice % len(queued)])
            assert lease is not None
            self.leases.append(lease)

    @rule(choice=st.integers(0))
    def end(self, choice: int) -> None:
        if self.leases:
            lease = self.leases.pop(choice % len(self.leases))
            try:
                finish(self.ledger, lease)
            except LeaseLost:
                # By a cancel alone: those whose lease ran out are in `lost`.
                assert lease.job in self.gone or any(job.id == lease.job and job.cancelled for job in self.jobs)

    @rule(choice=st.integers(0))
    def die(self, choice: int) -> None:
        if self.leases:
            lease = self.leases.pop(choice % len(self.leases))
            expire(self.ledger, lease.batch)
            rescue(self.ledger)
            self.lost.append(lease)

    @rule(choice=st.integers(0))
    def come_back_from_the_dead(self, choice: int) -> None:
        if self.lost:
            lease = self.lost[choice % len(self.lost)]
            with pytest.raises(LeaseLost):
                finish(self.ledger, lease)
            assert not self.ledger(leases.renew, lease, 60)

    @rule(choice=st.integers(0))
    def give_back(self, choice: int) -> None:
        if self.leases:
            lease = self.leases.pop(choice % len(self.leases))
            self.ledger(leases.give_back, lease)
            self.lost.append(lease)

    @rule(at=st.integers(0, 2))
    def cancel(self, at: int) -> None:
        job = self.jobs[at]
        if job.last is not None and not has_ended(self.ledger, job):
            self.ledger(cancel_job, job.id)
            job.cancelled = True

    @rule()
    def abandon(self) -> None:
        """The clients of all that still receives have gone; what comes after all goes on with it."""
        still = [
            job for job in self.jobs if job.last is not None and not (job.closed or job.cancelled or job.abandoned)
        ]
        assert self.ledger(abandon, after=0) == len(still)
        for job in still:
            job.abandoned = True

    @rule()
    def prune(self) -> None:
        """All whose end has come goes, with what it counted; what is open stays, and its sums with it."""
        ended = [
            job
            for job in self.jobs
            if job.last is not None
            and (job.cancelled or has_ended(self.ledger, job))
            and "dead" not in states(self.ledger, job.id)  # kept longer
        ]
        age(self.ledger, 31)
        gone = prune(self.ledger, rows=2)
        assert gone.jobs == len(ended)
        for job in ended:
            self.jobs[self.jobs.index(job)] = Sent()
            with pytest.raises(UnknownJob):
                status(self.ledger, job.id)
        self.gone |= {job.id for job in ended}

    @invariant()
    def nothing_is_left_of_a_pruned_job(self) -> None:
        known = {job.id for job in self.jobs}
        for table in ("batches", "failures"):
            query = text(f"SELECT DISTINCT job FROM {table}")
            assert set(self.ledger(lambda session, query=query: session.execute(query).scalars().all())) <= known

    @invariant()
    def every_picture_has_one_fate(self) -> None:
        waits = {
            job: int(count)
            for job, count in self.ledger(
                lambda session: session.execute(
                    text(
                        "SELECT job, sum(cardinality(digits)) FROM batches "
                        "WHERE state IN ('queued', 'leased') GROUP BY job"
                    )
                ).all()
            )
        }
        for job in self.jobs:
            if job.last is None:
                continue
            found = status(self.ledger, job.id)
            settled = sum(found[name] for name in ("succeeded", "unchanged", "failed", "cancelled"))
            assert found["accepted"] == job.pictures
            assert settled + waits.get(job.id, 0) == job.pictures
            assert (found["state"] == "cancelled") == job.cancelled
            at_end = not job.cancelled and job.id not in waits
            assert found["state"].startswith("finished") == (at_end and job.closed)
            assert (found["state"] == "abandoned") == (at_end and job.abandoned)

    @invariant()
    def every_failure_is_listed(self) -> None:
        """A superseded one is listed at once, and counted when its batch ends."""
        tries = text("SELECT coalesce(sum(attempts), 0) FROM failures WHERE job = :job")
        for job in self.jobs:
            if job.last is None or job.cancelled:
                continue
            found = status(self.ledger, job.id)
            listed = int(self.ledger(lambda session, id=job.id: session.execute(tries, {"job": id}).scalar_one()))
            assert listed >= found["failed"]
            if has_ended(self.ledger, job):
                assert listed == found["failed"]
                assert bool(failures(self.ledger, job.id)) == bool(found["failed"])

    @invariant()
    def vectors_are_those_of_the_stored_pixels(self) -> None:
        (tower,) = (row.id for row in self.ledger(towers.all_of_them))
        digits = stored(self.ledger)
        found = vectors(self.ledger, tower)
        seeds = {glyph(seed): seed for seed in range(3)}
        for key, own in found.items():
            assert own == pytest.approx(vector(tower, seeds[digits[key]]))

    @invariant()
    def every_digit_has_its_vector_or_waits_for_it(self) -> None:
        """Or it was given up with a batch that died three times."""
        query = text("""
            SELECT key FROM digits
            WHERE id NOT IN (SELECT digit FROM embeddings)
              AND id NOT IN (SELECT unnest(digits) FROM batches WHERE state IN ('queued', 'leased', 'dead'))
        """)
        assert self.ledger(lambda session: session.execute(query).scalars().all()) == []


def has_ended(ledger: Ledger, job: Sent) -> bool:
    """By itself, not by a cancel."""
    state = status(ledger, job.id)["state"]
    return state == "abandoned" or bool(state.startswith("finished"))


def test_the_ledger_adds_up_after_any_history(ledger: Ledger) -> None:
    register(ledger)

    class OnThisLedger(Bookkeeping):
        pass

    OnThisLedger.ledger = staticmethod(ledger)
    run_state_machine_as_test(
        OnThisLedger,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.reuse, Phase.generate],  # to shrink a history takes minutes, and tells little more
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
