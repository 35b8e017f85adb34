"""Chunks are stored once, each key has one digit, and whatever was sent is counted once."""

import uuid
from itertools import permutations, product

import pytest
from sqlalchemy import select, text

from db.queue.cancel import cancel_job
from db.queue.failures import FailedItem, page
from db.tables import Digit
from tests.makers import Ledger, counts, embed, failures, glyph, item, send, states, status, stored, vector, vectors


def digit(ledger: Ledger, key: str) -> Digit:
    found: Digit = ledger(lambda session: session.execute(select(Digit).where(Digit.key == key)).scalar_one())
    return found


def test_a_chunk_sent_twice_is_stored_once(ledger: Ledger) -> None:
    job = uuid.uuid4()
    first = send(ledger, item("a", 1), item("b", 2), job=job)
    again = send(ledger, item("a", 1), item("b", 2), job=job)
    assert first is not None
    assert again is None
    assert stored(ledger) == {"a": glyph(1), "b": glyph(2)}
    assert states(ledger, job) == ["queued"]


def test_another_chunk_under_an_accepted_number_changes_nothing(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), item("b", 2), job=job, open=True))
    embed(ledger, send(ledger, item("c", 3), job=job, seq=1, total=3))
    before = status(ledger, job)
    assert send(ledger, item("a", 4), job=job) is None
    assert status(ledger, job) == before
    assert stored(ledger) == {"a": glyph(1), "b": glyph(2), "c": glyph(3)}


def test_a_chunk_of_another_collection_does_not_enter_a_job_that_is_half_sent(ledger: Ledger, tower: int) -> None:
    """As of a second application, whose client makes ids of keys alone."""
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), job=job, open=True))
    assert send(ledger, item("z", 9), job=job, seq=1, total=2, collection="theirs") is None
    assert stored(ledger, "theirs") == {}
    embed(ledger, send(ledger, item("b", 2), job=job, seq=1, total=2))
    assert counts(ledger, job) == {"accepted": 2, "succeeded": 2}


def test_a_chunk_past_the_end_of_its_job_is_not_stored(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), job=job))
    before = status(ledger, job)
    assert send(ledger, item("z", 9), job=job, seq=5, total=100) is None
    assert status(ledger, job) == before
    assert stored(ledger) == {"a": glyph(1)}


def test_the_same_pixels_under_a_stored_key_are_unchanged(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("a", 1)))
    job = uuid.uuid4()
    assert send(ledger, item("a", 1), job=job) is None
    assert counts(ledger, job) == {"accepted": 1, "unchanged": 1}
    assert status(ledger, job)["state"] == "finished"


def test_other_pixels_under_a_stored_key_replace_the_digit_and_its_vector(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    embed(ledger, send(ledger, item("a", 1), job=first))
    batch = send(ledger, item("a", 2), job=second)
    assert stored(ledger) == {"a": glyph(2)}
    assert vectors(ledger, tower) == {}
    embed(ledger, batch)
    assert vectors(ledger, tower)["a"] == pytest.approx(vector(tower, 2))
    assert counts(ledger, first) == {"accepted": 1, "succeeded": 1}
    assert counts(ledger, second) == {"accepted": 1, "succeeded": 1}
    assert failures(ledger, first) == {}


def test_a_picture_replaced_before_it_was_embedded_is_a_failure_of_its_job(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    batch = send(ledger, item("a", 1), item("b", 3), job=first)
    send(ledger, item("a", 2), job=second)
    embed(ledger, batch)
    assert counts(ledger, first) == {"accepted": 2, "succeeded": 1, "failed": 1}
    assert failures(ledger, first) == {"a": "superseded"}
    assert status(ledger, first)["state"] == "finished_with_failures"


def test_every_job_that_waits_for_a_replaced_picture_lists_it(ledger: Ledger, tower: int) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    batches = [send(ledger, item("a", 1), job=first), send(ledger, item("a", 1), job=second)]
    send(ledger, item("a", 2))
    for batch, job in zip(batches, (first, second), strict=True):
        embed(ledger, batch)
        assert counts(ledger, job) == {"accepted": 1, "failed": 1}
        assert failures(ledger, job) == {"a": "superseded"}


def test_a_replaced_picture_that_another_job_had_embedded_is_still_a_failure_of_the_waiting_one(
    ledger: Ledger, tower: int
) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    done, waiting = send(ledger, item("a", 1), job=first), send(ledger, item("a", 1), job=second)
    embed(ledger, done)
    send(ledger, item("a", 2))
    embed(ledger, waiting)
    assert failures(ledger, first) == {}
    assert failures(ledger, second) == {"a": "superseded"}
    assert counts(ledger, second) == {"accepted": 1, "failed": 1}


@pytest.mark.parametrize("known", ["new", "due", "embedded"])
def test_a_key_twice_in_one_chunk_with_the_same_pixels_is_one_digit(ledger: Ledger, tower: int, known: str) -> None:
    if known != "new":
        batch = send(ledger, item("a", 1))
        if known == "embedded":
            embed(ledger, batch)
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), item("a", 1), item("b", 2), job=job)
    embed(ledger, batch)
    unchanged = 2 if known == "embedded" else 1
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 3 - unchanged, "unchanged": unchanged}
    assert stored(ledger) == {"a": glyph(1), "b": glyph(2)}
    assert set(vectors(ledger, tower)) == {"a", "b"}


@pytest.mark.parametrize("known", [None, 1, 2, 3], ids=["new", "as the first", "as the second", "otherwise"])
@pytest.mark.parametrize("embedded", [False, True])
def test_a_key_twice_in_one_chunk_with_other_pixels_keeps_the_last(
    ledger: Ledger, tower: int, known: int | None, embedded: bool
) -> None:
    if known is not None:
        batch = send(ledger, item("a", known))
        if embedded:
            embed(ledger, batch)
    job = uuid.uuid4()
    batch = send(ledger, item("a", 1), item("a", 2), job=job)
    if batch is not None:
        embed(ledger, batch)
    assert stored(ledger) == {"a": glyph(2)}
    assert failures(ledger, job) == {"a": "duplicate_key"}
    found = counts(ledger, job)
    assert found.pop("unchanged", 0) + found.pop("succeeded", 0) == 1
    assert found == {"accepted": 2, "failed": 1}


@pytest.mark.parametrize("at_once", [False, True], ids=["embedded at the end", "embedded as they come"])
def test_a_key_in_several_chunks_of_a_job_keeps_the_last_of_the_stream_in_whatever_order_they_come(
    ledger: Ledger, tower: int, at_once: bool
) -> None:
    for number, (known, order) in enumerate(product([None, 1, 2, 3, 4], permutations(range(3)))):
        key, job, batches = f"key {number}", uuid.uuid4(), []
        if known is not None:
            embed(ledger, send(ledger, item(key, known)))
        for seq in order:
            sent = item(key, seq + 1), item(f"{key}, {seq}", 9)
            batches.append(send(ledger, *sent, job=job, seq=seq, total=6, open=seq < 2))
            if at_once:
                embed_if_any(ledger, batches.pop())
        for batch in batches:
            embed_if_any(ledger, batch)
        assert stored(ledger)[key] == glyph(3), (known, order)
        assert vectors(ledger, tower)[key] == pytest.approx(vector(tower, 3))
        assert failures(ledger, job) == {key: "duplicate_key"}
        found = counts(ledger, job)
        assert found["accepted"] == found.get("succeeded", 0) + found.get("unchanged", 0) + found["failed"] == 6
        assert sum(row.attempts for row in ledger(page, job, after="", limit=9)) == found["failed"]


@pytest.mark.parametrize("stream", [(1, 2), (1, 2, 1)])
def test_a_stream_that_repeats_a_key_leaves_the_same_after_every_import(
    ledger: Ledger, tower: int, stream: tuple[int, ...]
) -> None:
    for _ in range(3):
        job = uuid.uuid4()
        for seq, seed in enumerate(stream):
            embed_if_any(ledger, send(ledger, item("a", seed), job=job, seq=seq, open=True))
        assert stored(ledger) == {"a": glyph(stream[-1])}
        assert failures(ledger, job) == {"a": "duplicate_key"}


def embed_if_any(ledger: Ledger, batch: int | None) -> None:
    if batch is not None:
        embed(ledger, batch)


def test_a_label_sent_later_is_taken_and_none_takes_none_away(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("a", 1, label=3, attributes={"page": 1})))
    send(ledger, item("a", 1))
    assert (digit(ledger, "a").label, digit(ledger, "a").attributes) == (3, {"page": 1})
    job = uuid.uuid4()
    send(ledger, item("a", 1, label=7, attributes={"page": 2}), job=job)
    assert (digit(ledger, "a").label, digit(ledger, "a").attributes) == (7, {"page": 2})
    assert counts(ledger, job) == {"accepted": 1, "unchanged": 1}


def test_attributes_alone_do_not_touch_the_vector(ledger: Ledger, tower: int) -> None:
    embed(ledger, send(ledger, item("a", 1, label=3, attributes={"page": 1})))
    version = text("SELECT xmin::text FROM embeddings")

    def row() -> str:
        return str(ledger(lambda session: session.execute(version).scalar_one()))

    written = row()
    send(ledger, item("a", 1, attributes={"page": 2}))
    assert (digit(ledger, "a").attributes, row()) == ({"page": 2}, written)
    send(ledger, item("a", 1, label=4, attributes={"page": 2}))
    assert row() != written


def test_collections_keep_equal_keys_apart(ledger: Ledger) -> None:
    send(ledger, item("a", 1), collection="one")
    send(ledger, item("a", 2), collection="two")
    assert (stored(ledger, "one"), stored(ledger, "two")) == ({"a": glyph(1)}, {"a": glyph(2)})


def test_refused_pictures_are_failures_and_the_rest_goes_on(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    refused = [FailedItem("bad", "damaged", "half a\0file", b"bytes"), FailedItem("worse", "empty", "nothing", None)]
    embed(ledger, send(ledger, item("a", 1), job=job, failures=refused))
    assert failures(ledger, job) == {"bad": "damaged", "worse": "empty"}
    assert counts(ledger, job) == {"accepted": 3, "succeeded": 1, "failed": 2}


def test_a_chunk_of_refused_pictures_alone_ends_its_job(ledger: Ledger) -> None:
    job = uuid.uuid4()
    assert send(ledger, job=job, failures=[FailedItem("bad", "damaged", "no", None)]) is None
    assert status(ledger, job)["state"] == "finished_with_failures"


def test_a_job_without_pictures_finishes(ledger: Ledger) -> None:
    job = uuid.uuid4()
    assert send(ledger, job=job) is None
    assert (status(ledger, job)["state"], status(ledger, job)["total"]) == ("finished", 0)


def test_chunks_of_a_cancelled_job_are_counted_and_not_stored(ledger: Ledger) -> None:
    job = uuid.uuid4()
    send(ledger, item("a", 1), job=job, open=True)
    ledger(cancel_job, job)
    assert send(ledger, item("b", 2), item("c", 3), job=job, seq=1, total=3) is None
    assert counts(ledger, job) == {"accepted": 3, "cancelled": 3}
    assert stored(ledger) == {}


def test_a_job_receives_until_every_chunk_is_there(ledger: Ledger, tower: int) -> None:
    job = uuid.uuid4()
    embed(ledger, send(ledger, item("c", 3), job=job, seq=2, total=3))
    assert status(ledger, job)["state"] == "receiving"
    embed(ledger, send(ledger, item("a", 1), job=job, seq=0, open=True))
    assert status(ledger, job)["state"] == "receiving"
    embed(ledger, send(ledger, item("b", 2), job=job, seq=1, open=True))
    assert (status(ledger, job)["state"], status(ledger, job)["total"]) == ("finished", 3)
