"""What is paused is neither claimed nor published, costs no attempt, and goes on when it is resumed."""

import uuid
from typing import Any

import pytest

from db.errors import NotPausable, UnknownJob
from db.queue import abandon, actions, cancel, jobs, pauses, rescue, steering, trainings, turns
from db.queue.intake import accept
from db.queue.leases import SMALL, claim_more
from db.states import JobKind, JobState
from tests.makers import (
    Ledger,
    batch_of,
    chunk,
    claim,
    embed,
    expire,
    finish,
    item,
    register,
    row,
    send,
)
from tests.makers import rescue as rescue_all

ME = "me@here"


def pause(ledger: Ledger, lane: str = "embed", **how: Any) -> pauses.Pause:
    paused: pauses.Pause = ledger(lambda session: steering.pause_lane(session, lane, by=ME, why="to try", **how))
    return paused


def resume(ledger: Ledger, lane: str = "embed") -> bool:
    return bool(ledger(lambda session: steering.resume_lane(session, lane, by=ME)))


def due(ledger: Ledger, kind: JobKind = JobKind.EMBED) -> list[int]:
    """What a sweep would publish now."""
    taken = ledger(lambda session: rescue.take_due(session, kind, republish_after=3600, in_flight=100))
    return [batch for batch, _ in taken]


def oldest(ledger: Ledger) -> list[int]:
    return sorted(each.batch for each in ledger(lambda session: turns.oldest(session, JobKind.EMBED)))


def job_of(ledger: Ledger, batch: int) -> uuid.UUID:
    id = row(ledger, batch).job
    assert isinstance(id, uuid.UUID)
    return id


def test_a_paused_lane_is_neither_claimed_nor_published_and_goes_on(ledger: Ledger) -> None:
    register(ledger)
    running, waiting = batch_of(ledger, item("a", 1)), batch_of(ledger, item("b", 2))
    lease = claim(ledger, running)
    pause(ledger)
    assert claim(ledger, waiting) is None
    assert oldest(ledger) == []
    accepted = ledger(accept, chunk(item("c", 3)))
    assert accepted.held
    later = accepted.batch
    assert due(ledger) == []
    assert lease is not None
    assert finish(ledger, lease) == 1, "what was worked on is finished"
    assert row(ledger, waiting).attempt == 0

    assert resume(ledger)
    assert due(ledger) == [waiting, later], "although they were published before"
    assert oldest(ledger) == [waiting, later]
    assert embed(ledger, waiting) == 1
    assert not resume(ledger), "it is not paused any more"
    assert not ledger(accept, chunk(item("d", 4))).held


def test_a_small_batch_is_not_claimed_along_with_another_while_its_job_is_paused(ledger: Ledger) -> None:
    register(ledger)
    first, held = batch_of(ledger, item("a", 1)), batch_of(ledger, item("b", 2))
    assert row(ledger, held).size <= SMALL
    ledger(lambda session: steering.pause_job(session, job_of(ledger, held), by=ME, why=None))
    lease = claim(ledger, first)
    assert lease is not None
    assert ledger(claim_more, lease, worker="worker", lease=60) == []
    ledger(lambda session: steering.resume_job(session, job_of(ledger, held)))
    (along,) = ledger(claim_more, lease, worker="worker", lease=60)
    assert along.batch == held


def test_a_lane_has_no_say_over_another(ledger: Ledger) -> None:
    register(ledger)
    batch = batch_of(ledger, item("a", 1))
    pause(ledger, "backfill")
    pause(ledger, "train")
    assert embed(ledger, batch) == 1


def test_a_paused_job_waits_and_others_go_on(ledger: Ledger) -> None:
    register(ledger)
    held, other = batch_of(ledger, item("a", 1)), batch_of(ledger, item("b", 2))
    job = job_of(ledger, held)
    ledger(lambda session: steering.pause_job(session, job, by=ME, why="its sender asked"))
    assert claim(ledger, held) is None
    assert oldest(ledger) == [other]
    status = ledger(lambda session: jobs.status(session, job))
    assert (status.state, status.paused.by, status.paused.why) == (JobState.QUEUED, ME, "its sender asked")
    assert embed(ledger, other) == 1

    ledger(lambda session: steering.resume_job(session, job))
    assert ledger(lambda session: jobs.status(session, job)).paused is None
    assert embed(ledger, held) == 1
    with pytest.raises(NotPausable):
        ledger(lambda session: steering.pause_job(session, job, by=ME, why=None))
    with pytest.raises(UnknownJob):
        ledger(lambda session: steering.pause_job(session, uuid.uuid4(), by=ME, why=None))


def test_a_paused_job_can_be_cancelled(ledger: Ledger) -> None:
    register(ledger)
    job = job_of(ledger, batch_of(ledger, item("a", 1)))
    ledger(lambda session: steering.pause_job(session, job, by=ME, why=None))
    assert ledger(lambda session: cancel.cancel_job(session, job))
    status = ledger(lambda session: jobs.status(session, job))
    assert (status.state, status.cancelled, status.paused) == (JobState.CANCELLED, 1, None)


def test_the_status_of_a_job_names_the_pause_of_its_lane(ledger: Ledger) -> None:
    register(ledger)
    batch = batch_of(ledger, item("a", 1))
    pause(ledger)
    paused = ledger(lambda session: jobs.status(session, job_of(ledger, batch))).paused
    assert (paused.lane, paused.by, paused.why) == ("embed", ME, "to try")


def test_a_batch_whose_worker_dies_while_its_lane_is_paused_comes_back_and_waits(ledger: Ledger) -> None:
    register(ledger)
    batch = batch_of(ledger, item("a", 1))
    assert claim(ledger, batch) is not None
    pause(ledger)
    expire(ledger, batch)
    rescue_all(ledger)
    assert row(ledger, batch).state == "queued"
    assert due(ledger) == []
    resume(ledger)
    assert embed(ledger, batch) == 1


def test_a_lane_that_drains_finishes_what_it_had(ledger: Ledger) -> None:
    register(ledger)
    before = batch_of(ledger, item("a", 1))
    paused = pause(ledger, drain=True)
    assert (paused.draining, paused.left) == (True, 1)
    after = batch_of(ledger, item("b", 2))
    assert claim(ledger, after) is None
    assert oldest(ledger) == [before]
    assert embed(ledger, before) == 1
    left = ledger(lambda session: pauses.counted(session, pauses.of_lanes(session)["embed"])).left
    assert left == 0
    resume(ledger)
    assert embed(ledger, after) == 1


def test_a_training_waits_while_its_lane_is_paused(ledger: Ledger) -> None:
    _, batch = ledger(
        lambda session: trainings.start(
            session, uuid.uuid4(), recipe="quick", seed=1, data="mnist", promotes=False, started_by=None, callback=None
        )
    )
    pause(ledger, "train")
    assert claim(ledger, batch) is None
    resume(ledger, "train")
    assert claim(ledger, batch) is not None


def test_no_job_is_abandoned_while_pictures_are_not_taken_in(ledger: Ledger) -> None:
    send(ledger, item("a", 1), open=True)
    pause(ledger, "intake")
    assert ledger(lambda session: abandon.abandon(session, after=0)) == 0
    resume(ledger, "intake")
    assert ledger(lambda session: abandon.abandon(session, after=60)) == 0, "its client has had no time yet"
    assert ledger(lambda session: abandon.abandon(session, after=0)) == 1


def test_who_did_what_is_listed_and_the_same_again_is_counted(ledger: Ledger) -> None:
    for digits in (3, 4):
        ledger(lambda session, digits=digits: actions.record(session, ME, "delete", "collection c", {"digits": digits}))
    noted = actions.recorded(steering.pause_lane, ME, "pause", "lane embed")
    ledger(lambda session: noted(session, "embed", by=ME, why=None))
    pausing, deleting = ledger(lambda session: actions.latest(session, limit=10))
    assert (pausing.action, pausing.target, pausing.by, pausing.times) == ("pause", "lane embed", ME, 1)
    assert (deleting.times, deleting.details) == (2, {"digits": 7})
    assert ledger(lambda session: actions.prune(session, days=1, rows=10)) == 0
    assert ledger(lambda session: actions.prune(session, days=0, rows=10)) == 2


def test_what_fails_is_not_noted(ledger: Ledger) -> None:
    noted = actions.recorded(steering.pause_job, ME, "pause", "job ?")
    with pytest.raises(UnknownJob):
        ledger(lambda session: noted(session, uuid.uuid4(), by=ME, why=None))
    assert ledger(lambda session: actions.latest(session, limit=10)) == []


def test_unfinished_jobs_are_found_by_what_they_are(ledger: Ledger) -> None:
    register(ledger)
    done = batch_of(ledger, item("a", 1))
    embed(ledger, done)
    waiting = job_of(ledger, batch_of(ledger, item("b", 2)))
    send(ledger, item("c", 3), collection="other", open=True)

    def found(**filters: Any) -> list[str]:
        return [job.id for job in ledger(lambda session: jobs.unfinished(session, limit=10, **filters))]

    assert len(found()) == 2
    assert found(state="queued") == [str(waiting)]
    assert found(collection="default") == [str(waiting)]
    assert len(found(state="receiving", collection="other")) == 1
    assert found(kind="train") == []
    assert found(since=0) == []
