"""Small jobs are stored whole, with their vectors and as any other job is; what is not plain is left as it was."""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db.errors import BadVectors
from db.queue import jobs, steering
from db.queue.failures import FailedItem
from db.queue.intake import Item, Submission
from db.queue.jobs import JobStatus
from db.queue.whole import Maintained, NotPlain, store_whole
from db.states import TowerStatus
from db.tables import Batch, Digit, Embedding, Job, Tower
from tests.makers import Ledger, chunk, counts, item, picked, register, send, stored, together, vector, vectors

Array = np.ndarray[Any, Any]


def embed(session: Session, towers: Sequence[Maintained], pixels: Array, made: Array) -> tuple[dict[int, Array], Array]:
    """Under stand-ins; what was made of a picture, and is darker than another, looks like no digit."""
    return {tower.id: picked(tower.id, pixels) for tower in towers}, made & (pixels.sum(axis=1) > DARK)


DARK = np.frombuffer(item("", 1).pixels, np.uint8).sum() - 1


def store(ledger: Ledger, *chunks: Submission, by: Any = embed) -> list[JobStatus]:
    found: list[JobStatus] = ledger(store_whole, chunks, by, worker="here")
    return found


def rows(ledger: Ledger) -> tuple[int, ...]:
    """How many there are of each table."""
    tables = (Job, Batch, Digit, Embedding)
    counted = [select(func.count()).select_from(each).scalar_subquery() for each in tables]
    return tuple(ledger(lambda session: session.execute(select(*counted)).one()))


def made(key: str, seed: int) -> Item:
    return item(key, seed)._replace(made=True)


def test_jobs_are_stored_with_their_vectors_and_end_as_any_other(ledger: Ledger) -> None:
    tower, candidate = register(ledger), register(ledger, "second")
    sent = [
        chunk(item("a", 1, label=7, attributes={"page": 3}), item("b", 2)),
        chunk(item("a", 3), collection="other"),
        chunk(made("dark", 1), priority=4),
    ]
    found = store(ledger, *sent)
    assert found == [ledger(jobs.status, each.job) for each in sent]
    assert [status.state for status in found] == ["finished"] * 3
    assert [status.doubtful for status in found] == [0, 0, 1]
    assert stored(ledger, "other") == {"a": item("a", 3).pixels}
    assert set(stored(ledger)) == {"a", "b", "dark"}
    for each in (tower, candidate):
        np.testing.assert_array_equal(vectors(ledger, each)["b"], vector(each, 2))
        assert rows(ledger)[2:] == (4, 8)
    batches = ledger(lambda session: session.execute(select(Batch)).scalars().all())
    assert {(batch.state, batch.attempt, batch.worker, batch.token) for batch in batches} == {("done", 1, "here", None)}
    first = ledger(lambda session: session.execute(select(Digit).where(Digit.label == 7)).scalar_one())
    assert (first.key, first.attributes, first.job, first.seq) == ("a", {"page": 3}, sent[0].job, 0)
    opened = ledger(lambda session: session.get(Job, sent[2].job))
    assert (opened.total, opened.chunks, opened.receiving, opened.parameters) == (1, 1, False, {"priority": 4})


@pytest.mark.parametrize("kept", [True, False], ids=["kept ready", "left"])
def test_a_previous_tower_gets_vectors_as_well_where_it_is_kept_ready(ledger: Ledger, kept: bool) -> None:
    previous, live = register(ledger), register(ledger, "second")
    for tower, status in ((previous, TowerStatus.PREVIOUS), (live, TowerStatus.LIVE)):
        changed = update(Tower).where(Tower.id == tower).values(status=status, maintained=kept)
        ledger(lambda session, changed=changed: session.execute(changed))
    store(ledger, chunk(item("a", 1)))
    assert [set(vectors(ledger, tower)) for tower in (live, previous)] == [{"a"}, {"a"} if kept else set()]


def test_towers_that_came_or_went_since_the_last_job_are_those_that_count(ledger: Ledger) -> None:
    first = register(ledger)
    store(ledger, chunk(item("a", 1)))
    second = register(ledger, "second")
    store(ledger, chunk(item("b", 2)))
    for tower, status in ((first, TowerStatus.RETIRED), (second, TowerStatus.LIVE)):
        changed = update(Tower).where(Tower.id == tower).values(status=status)
        ledger(lambda session, changed=changed: session.execute(changed))
    found = store(ledger, chunk(item("c", 3), made("dark", 1)))
    assert [status.doubtful for status in found] == [1]
    assert [set(vectors(ledger, tower)) for tower in (first, second)] == [{"a", "b"}, {"b", "c", "dark"}]
    np.testing.assert_array_equal(vectors(ledger, second)["c"], vector(second, 3))


def test_a_job_that_comes_again_is_the_one_that_was_stored(ledger: Ledger) -> None:
    register(ledger)
    job = chunk(item("a", 1))
    store(ledger, job)
    before = rows(ledger)
    with pytest.raises(NotPlain):
        store(ledger, job)
    assert send(ledger, item("a", 1), job=job.job) is None
    assert rows(ledger) == before
    assert counts(ledger, job.job) == {"accepted": 1, "succeeded": 1}


def paused(ledger: Ledger, lane: str) -> list[Submission]:
    ledger(steering.pause_lane, lane, by="me", why=None)
    return [chunk(item("a", 1))]


NOT_PLAIN: dict[str, Callable[[Ledger], list[Submission]]] = {
    "a key is stored": lambda ledger: [chunk(item("new", 4)), chunk(item("old", 5))],
    "a key comes twice": lambda ledger: [chunk(item("a", 1)), chunk(item("a", 2))],
    "a picture was refused": lambda ledger: [
        chunk(item("a", 1), failures=[FailedItem("b", "undecodable", "no picture", None)])
    ],
    "embed is paused": lambda ledger: paused(ledger, "embed"),
    "intake is paused": lambda ledger: paused(ledger, "intake"),
}


@pytest.mark.parametrize("why", NOT_PLAIN)
def test_where_anything_is_not_plain_nothing_is_stored(ledger: Ledger, why: str) -> None:
    register(ledger)
    store(ledger, chunk(item("old", 1)))
    sent, before = NOT_PLAIN[why](ledger), rows(ledger)
    with pytest.raises(NotPlain):
        store(ledger, *sent)
    assert rows(ledger) == before


def test_without_a_tower_or_one_at_hand_nothing_is_stored(ledger: Ledger) -> None:
    with pytest.raises(NotPlain):
        store(ledger, chunk(item("a", 1)))
    register(ledger)
    with pytest.raises(NotPlain):
        store(ledger, chunk(item("a", 1)), by=lambda *_: None)
    assert rows(ledger) == (0, 0, 0, 0)


def test_vectors_that_are_not_finite_are_not_stored(ledger: Ledger) -> None:
    def broken(session: Session, towers: Sequence[Maintained], pixels: Array, made: Array) -> Any:
        return {tower.id: picked(tower.id, pixels) * np.float32(np.nan) for tower in towers}, made

    register(ledger)
    with pytest.raises(BadVectors):
        store(ledger, chunk(item("a", 1)), by=broken)
    assert rows(ledger) == (0, 0, 0, 0)


@pytest.mark.parametrize("round", range(3))
def test_the_same_jobs_from_several_workers_at_once_are_stored_once(ledger: Ledger, round: int) -> None:
    register(ledger)
    sent = [chunk(item(f"{at}", at), job=uuid.uuid4(), collection=f"{at % 3}") for at in range(12)]

    def work(at: int) -> int:
        order = np.random.default_rng(10 * round + at).permutation(len(sent))
        try:
            return len(store(ledger, *(sent[index] for index in order)))
        except NotPlain:
            return 0

    assert sorted(together(*(partial(work, at) for at in range(4)))) == [0, 0, 0, len(sent)]
    assert rows(ledger) == (12, 12, 12, 12)
