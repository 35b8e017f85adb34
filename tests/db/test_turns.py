"""Jobs that wait take turns by their priority, whichever batch a message names, and every batch is taken once."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from db.queue import turns
from db.queue.turns import Due, Turns
from db.states import JobKind
from tasks.embed import embed_claimed
from tests.makers import batch_of, claim, item, register, row, send
from worker.runtime import Runtime

JOBS = [uuid.UUID(int=at) for at in range(4)]


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(1, 10)), min_size=2, max_size=4))
def test_what_each_has_had_differs_by_no_more_than_a_batch(jobs: list[tuple[int, int]]) -> None:
    fair, had = Turns(), [0] * len(jobs)
    due = [Due(JOBS[at], at, *job) for at, job in enumerate(jobs)]
    for _ in range(200):
        chosen = fair.next(due)
        assert chosen is not None
        had[chosen.batch] += chosen.digits
        shares = [got / job.priority for got, job in zip(had, due, strict=True)]
        assert max(shares) - min(shares) <= max(job.digits / job.priority for job in due) + 1e-6


def test_one_that_comes_late_has_no_claim_to_what_was_before() -> None:
    fair = Turns()
    first, late = Due(JOBS[0], 1, 100, 1), Due(JOBS[1], 9, 100, 1)
    for _ in range(50):
        assert fair.next([first]) == first
    found = [fair.next([first, late]) for _ in range(6)]
    assert found.count(first) == found.count(late) == 3
    assert fair.next([]) is None


def test_a_small_job_waits_for_one_batch_of_a_large_one(runtime: Runtime) -> None:
    ledger = runtime.transact
    register(ledger)
    large, later, most = uuid.uuid4(), uuid.uuid4(), []
    for seq in range(4):
        items = [item(f"{seq}/{at}", 100 * seq + at) for at in range(20)]
        most.append(send(ledger, *items, job=large, seq=seq, total=80, open=seq < 3))
    for seq in range(2):
        items = [item(f"late/{seq}/{at}", 1000 + 100 * seq + at) for at in range(20)]
        most.append(send(ledger, *items, job=later, seq=seq, total=40, open=seq < 1))
    order: list[int | None] = []
    for batch in most:  # one message for each
        order += embed_claimed(runtime.claim_next(batch or 0), runtime)
    first, second, third, fourth, late, last = most
    assert order == [first, late, second, last, third, fourth]
    assert runtime.claim_next(first or 0) == []


def test_what_is_to_wait_after_an_error_and_what_another_has_is_left_out(runtime: Runtime) -> None:
    ledger = runtime.transact
    register(ledger)
    held, failed, due = (batch_of(ledger, item(str(at), at), job=job) for at, job in enumerate(JOBS[:3]))
    claim(ledger, held)
    lease = claim(ledger, failed)
    assert lease is not None
    runtime.give_back(lease, RuntimeError("no luck"))
    assert [each.batch for each in ledger(turns.oldest, JobKind.EMBED)] == [due]
    assert ledger(turns.oldest, JobKind.BACKFILL) == []
    assert row(ledger, due).job == JOBS[2]


def test_twice_the_priority_is_twice_the_share(runtime: Runtime) -> None:
    ledger = runtime.transact
    register(ledger)
    batch_of(ledger, item("a", 1), job=JOBS[0], priority=2)
    batch_of(ledger, item("b", 2), job=JOBS[1])
    assert [each.priority for each in ledger(turns.oldest, JobKind.EMBED)] == [2, 1]
