"""Workers that are told to stop: they leave within their grace, and what they could not finish waits for others."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.servers.process import alive
from tests.chaos.fleet import Fleet
from tests.chaos.member import Member, send
from tests.chaos.oracle import judge
from tests.chaos.pictures import Pictures, digests, noise

CREW = {"front": "control,express,intake", "beat": ""}
LEASE = 60  # seconds: nothing here waits for one to run out
SHORT_LEASE = 2
GRACE = 2  # seconds, as `worker_soft_shutdown_timeout`
LEFT_WITHIN = 10  # seconds, of which a loaded machine takes some
STOPPING = "Initiating Soft Shutdown"  # in a worker's log
COUNT = 128  # pictures of two batches


@pytest.fixture(scope="module")
def fleet(costly: None) -> Iterator[Fleet]:
    """All but embedders, with a lease that outlasts every test."""
    hasty = {"hasty": {"TWINVEC_LEASE": str(SHORT_LEASE)}}
    with Fleet(CREW, settings={"TWINVEC_LEASE": str(LEASE)}, of_member=hasty) as fleet:
        yield fleet


@contextmanager
def embedder(fleet: Fleet, name: str) -> Iterator[Member]:
    """One that is not started again; dead after the block."""
    member = fleet.add(name, "embed,backfill", start=False)
    del fleet.members[name]
    try:
        member.start()
        fleet.until(member.works, f"{name} ready")
        yield member
    finally:
        member.end()


def submit(fleet: Fleet, collection: str) -> tuple[str, Pictures]:
    pictures = noise(COUNT, seed=len(collection), prefix=f"{collection}/")
    return fleet.application.embed(pictures, collection=collection), pictures


def batches(fleet: Fleet, job: str) -> list[tuple[str, int]]:
    """(state, attempt) of each batch of a job."""
    return [
        (row.state, row.attempt)
        for row in fleet.ledger.rows(
            "SELECT state, attempt FROM batches WHERE job = CAST(:job AS uuid) ORDER BY id", job=job
        )
    ]


def await_claim(fleet: Fleet, job: str) -> None:
    fleet.until(lambda: ("leased", 1) in batches(fleet, job), "a claim")


def await_exit(fleet: Fleet, member: Member, family: list[Any]) -> None:
    """Wait until a worker and its pool have ended by themselves."""
    fleet.until(lambda: not member.alive(), "the worker's exit", within=LEFT_WITHIN)
    fleet.until(lambda: not any(alive(process) for process in family), "the pool's end", within=LEFT_WITHIN)


def assert_another_finishes(fleet: Fleet, job: str, pictures: Pictures, *, within: float = 20) -> None:
    """Another worker embeds what is left: each picture once, none of them a failure."""
    collection = next(iter(pictures)).partition("/")[0]
    fleet.injection.slow_down(0)
    with embedder(fleet, "successor"):
        fleet.ledger.settled(job, within=within)
    verdict = judge(fleet, digests(pictures), collection=collection)
    assert (verdict.embedded, verdict.failed) == (COUNT, 0)
    assert not (verdict.lost or verdict.duplicated or verdict.wrong or verdict.faults), verdict
    assert fleet.application.client().job(job).status().state == "finished"


def test_a_worker_that_is_told_to_stop_finishes_its_batch_or_gives_it_back(fleet: Fleet) -> None:
    fleet.injection.slow_down(GRACE / 2)
    with embedder(fleet, "leaving") as member:
        job, pictures = submit(fleet, "brief")
        await_claim(fleet, job)
        family = member.family()
        send(family[:1], signal.SIGTERM)
        await_exit(fleet, member, family)
    assert set(batches(fleet, job)) <= {("done", 1), ("queued", 0)}
    assert_another_finishes(fleet, job, pictures)
    assert set(batches(fleet, job)) == {("done", 1)}


def test_a_batch_that_outlasts_the_grace_is_given_back_at_once_and_its_attempt_is_not_counted(fleet: Fleet) -> None:
    fleet.injection.slow_down(LEASE / 4)
    with embedder(fleet, "leaving") as member:
        job, pictures = submit(fleet, "lengthy")
        await_claim(fleet, job)
        family = member.family()
        send(family[:1], signal.SIGTERM)
        fleet.until(lambda: batches(fleet, job) == [("queued", 0)] * 2, "the batch given back", within=LEFT_WITHIN)
        await_exit(fleet, member, family)
    assert_another_finishes(fleet, job, pictures)
    assert set(batches(fleet, job)) == {("done", 1)}


def test_a_worker_that_is_told_twice_to_stop_loses_nothing(fleet: Fleet) -> None:
    fleet.injection.slow_down(LEASE / 4)
    with embedder(fleet, "leaving") as member:
        job, pictures = submit(fleet, "twice")
        await_claim(fleet, job)
        family = member.family()
        send(family[:1], signal.SIGTERM)
        fleet.until(lambda: STOPPING in member.log.read_text(), "the first signal's effect")
        send(family[:1], signal.SIGTERM)
        await_exit(fleet, member, family)
    assert batches(fleet, job) == [("queued", 0)] * 2
    assert_another_finishes(fleet, job, pictures)


def test_a_worker_that_is_killed_while_it_stops_loses_nothing(fleet: Fleet) -> None:
    fleet.injection.slow_down(LEASE / 4)
    with embedder(fleet, "hasty") as member:
        job, pictures = submit(fleet, "killed")
        await_claim(fleet, job)
        family = member.family()
        send(family[:1], signal.SIGTERM)
        send(family, signal.SIGKILL)
        await_exit(fleet, member, family)
        assert ("leased", 1) in batches(fleet, job)
    assert_another_finishes(fleet, job, pictures)
