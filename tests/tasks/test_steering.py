"""What is paused is neither published nor taken in, and its senders are told so."""

import uuid
from typing import Any

import numpy as np
import pytest
import redis
from sqlalchemy import insert

from db.tables import Inbox
from tasks import express as quickly
from tasks import inbox as taking
from tasks.intake import take_in
from tasks.jobs import receipts_of
from tasks.steering import hold, let_go_on
from tasks.upkeep import open_inbox, sweep
from tests.makers import batch_of, counts, glyph, item, register, row
from twinvec_client.chunks import JobOptions, chunks
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.messages import Express, Intake, PauseWork, Receipts, ResumeWork
from worker import held
from worker.runtime import Runtime


def pause(runtime: Runtime, lane: Any = None, job: str | None = None, *, drain: bool = False) -> Any:
    return hold(PauseWork(paused_lane=lane, job=job, drain=drain, why="to try", by="me@here"), runtime)


def resume(runtime: Runtime, lane: Any = None, job: str | None = None) -> bool:
    return let_go_on(ResumeWork(paused_lane=lane, job=job, by="me@here"), runtime)


JOB = "00000000-0000-4000-8000-000000000001"


def small_job() -> Express:
    options = JobOptions(job=JOB, collection="default", normalise=False)
    (chunk,) = chunks({"a": np.frombuffer(glyph(1), np.uint8).reshape(28, 28)}, options, most=10)
    made = Express.of(chunk)
    assert made is not None
    return made


def test_a_resume_publishes_what_was_held_and_a_sweep_before_it_does_not(
    runtime: Runtime, broker: "redis.Redis"
) -> None:
    register(runtime.transact)
    pause(runtime, "embed")
    batch = batch_of(runtime.transact, item("a", 1))
    sweep(runtime)
    assert broker.llen(KEY_PREFIX + "embed") == 0
    assert resume(runtime, "embed")
    assert broker.llen(KEY_PREFIX + "embed") == 1
    assert row(runtime.transact, batch).attempt == 0


def test_a_chunk_that_comes_while_its_lane_is_paused_is_stored_and_not_published(
    runtime: Runtime, broker: "redis.Redis"
) -> None:
    pause(runtime, "embed")
    take_in(small_job(), runtime)
    assert broker.llen(KEY_PREFIX + "embed") == 0


def test_a_small_job_is_stored_and_waits_while_embed_is_paused(runtime: Runtime) -> None:
    register(runtime.transact)
    pause(runtime, "embed")
    job = small_job()
    assert quickly.take_together(job, [], runtime) == {"digest": job.digest, "status": None}
    assert counts(runtime.transact, uuid.UUID(job.job)) == {"accepted": 1}


def test_a_small_job_is_refused_while_no_pictures_are_taken_in(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.express.runtime", lambda: runtime)
    pause(runtime, "intake")
    answer = quickly.express(**small_job().write())
    assert answer["error"] == "Paused"
    assert "by me@here" in answer["message"]
    assert "to try" in answer["message"]


def test_workers_are_told_what_not_to_read_and_again_after_the_broker_was_emptied(
    runtime: Runtime, broker: "redis.Redis"
) -> None:
    pause(runtime, "embed")
    assert held.read(broker) == frozenset(), "its messages only wake, and are read"
    pause(runtime, "intake")
    assert held.read(broker) == {"intake"}
    broker.flushdb()
    sweep(runtime)
    assert held.read(broker) == {"intake"}
    pause(runtime, "intake", drain=True)
    assert held.read(broker) == frozenset()
    resume(runtime, "intake")
    assert held.read(broker) == frozenset()


@pytest.mark.parametrize("note", [b"{", b"7", b'["query", "control"]'])
def test_what_is_no_such_note_holds_no_lane(broker: "redis.Redis", note: bytes) -> None:
    broker.set(KEY_PREFIX + held.KEY, note)
    assert held.read(broker) == frozenset()


def test_what_applications_left_in_the_database_stays_there(runtime: Runtime, broker: "redis.Redis") -> None:
    message = Intake(**{name: getattr(small_job(), name) for name in Intake.__struct_fields__}).pack()
    left = insert(Inbox).values(job=JOB, message=message, attempts=0)
    runtime.transact(lambda session: session.execute(left) and None)
    pause(runtime, "intake")
    open_inbox(runtime)
    assert broker.llen(KEY_PREFIX + "intake") == 0
    assert taking.empty(runtime) == 0
    resume(runtime, "intake")
    assert taking.empty(runtime) == 1


def test_senders_learn_of_it_with_their_receipts(runtime: Runtime) -> None:
    asked = Receipts(job=JOB, after=-1)
    assert receipts_of(asked, runtime)["paused"] is None
    pause(runtime, "intake")
    assert receipts_of(asked, runtime)["paused"]["by"] == "me@here"
