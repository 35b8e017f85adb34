"""What is stored: listed, read, relabelled and deleted by a client of a real worker."""

import uuid

import pytest
from sqlalchemy import func, select

from db.queue.failures import FailedItem
from db.tables import Embedding, Failure
from tests.makers import (
    batch_of,
    claim,
    counts,
    embed,
    failures,
    finish,
    glyph,
    item,
    nearest,
    register,
    send,
    vector,
)
from twinvec_client import InvalidRequest, Twinvec, UnknownKey
from worker.runtime import Runtime


@pytest.fixture
def towers(runtime: Runtime) -> tuple[int, int]:
    """A live tower and a candidate, and six digits under both: a to d in `one`, a and b in `two`."""
    ledger = runtime.transact
    live, candidate = register(ledger), register(ledger, "newer")
    one = [item(key, seed, seed % 2, {"page": seed}) for seed, key in enumerate("abcd")]
    embed(ledger, send(ledger, *one, collection="one"))
    embed(ledger, send(ledger, item("a", 10), item("b", 11, 7), collection="two"))
    return live, candidate


def stored_vectors(runtime: Runtime) -> int:
    return int(
        runtime.transact(lambda session: session.execute(select(func.count()).select_from(Embedding)).scalar_one())
    )


def test_what_is_stored_is_listed_and_read(tv: Twinvec, towers: tuple[int, int]) -> None:
    assert [(each.name, each.digits, each.labelled) for each in tv.collections()] == [("one", 4, 4), ("two", 2, 1)]
    assert [(each.collection, each.key) for each in tv.digits()] == [("one", key) for key in "abcd"] + [
        ("two", "a"),
        ("two", "b"),
    ]
    assert [each.key for each in tv.digits(collection="one", label=1)] == ["b", "d"]
    digit = tv.get("c", collection="one")
    assert (digit.key, digit.label, digit.attributes, digit.picture) == ("c", 0, {"page": 2}, glyph(2))
    assert [each.key for each in tv.get_many(["d", "nothing", "a"], collection="one")] == ["d", "a"]
    with pytest.raises(UnknownKey, match="'c'"):
        tv.get("c", collection="two")


def test_pages_end_and_pass_over_what_does_not_match(
    tv: Twinvec, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.digits.PAGE_READ", 3)
    send(runtime.transact, *(item(f"{seed:02}", seed, int(seed == 17)) for seed in range(20)))
    assert [each.key for each in tv.digits()] == [f"{seed:02}" for seed in range(20)]
    assert [each.key for each in tv.digits(label=1, pictures=True)] == ["17"]


def test_a_label_is_changed_without_pixels_and_found_at_once(
    tv: Twinvec, runtime: Runtime, towers: tuple[int, int]
) -> None:
    assert tv.label({"a": 5, "b": None, "nothing": 3}, collection="one") == ["nothing"]
    assert [each.label for each in tv.digits(collection="one")] == [5, None, 0, 1]
    for tower in towers:
        found = nearest(runtime.transact, tower, vector(tower, 0), k=3, label=5)
        assert [neighbour.key for neighbour in found.neighbours] == ["a"]
    assert tv.set_attributes({"a": {"by": "me"}, "b": None}, collection="one") == []
    assert [each.attributes for each in tv.digits(collection="one")] == [{"by": "me"}, None, {"page": 2}, {"page": 3}]
    assert tv.get("a", collection="one").label == 5


def test_what_is_deleted_leaves_nothing_behind(tv: Twinvec, runtime: Runtime, towers: tuple[int, int]) -> None:
    job = uuid.uuid4()
    kept = FailedItem("a", "blank", "no ink", b"a picture", False, 3, {"page": 9})
    send(runtime.transact, job=job, collection="one", failures=[kept, kept._replace(key="b")])
    tv.judge_many([("a", "b", True), ("c", "b", False), ("b", "d", False)], collection="one")
    gone = tv.delete(["a", "c", "nothing"], collection="one")
    assert (gone.digits, gone.vectors, gone.pictures, gone.judgements, gone.left) == (2, 4, 1, 2, 0)
    assert [each.other_key for each in tv.judgements()] == ["d"]
    assert [(each.collection, each.key) for each in tv.digits()] == [
        ("one", "b"),
        ("one", "d"),
        ("two", "a"),
        ("two", "b"),
    ]
    assert stored_vectors(runtime) == 8
    rows = runtime.transact(
        lambda session: session.execute(select(Failure.key, Failure.picture).order_by(Failure.key)).all()
    )
    assert [tuple(row) for row in rows] == [("a", None), ("b", b"a picture")]
    for tower in towers:
        found = nearest(runtime.transact, tower, vector(tower, 0), k=9)
        assert "a" not in [neighbour.key for neighbour in found.neighbours if neighbour.collection == "one"]


def test_a_whole_collection_goes_and_no_other(
    tv: Twinvec, runtime: Runtime, towers: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.queue.delete.AT_ONCE", 3)
    job = uuid.uuid4()
    send(runtime.transact, job=job, collection="one", failures=[FailedItem("x", "blank", "no ink", b"a picture")])
    gone = tv.delete_collection("one")
    assert (gone.digits, gone.vectors, gone.pictures, gone.left) == (4, 8, 1, 0)
    assert [(each.name, each.digits) for each in tv.collections()] == [("two", 2)]
    assert tv.delete_collection("one").digits == 0


def test_a_deleted_digit_does_not_come_back(tv: Twinvec, runtime: Runtime, towers: tuple[int, int]) -> None:
    """Its batch is being embedded meanwhile: the job ends, with the digit among its failures and no picture kept."""
    job = uuid.uuid4()
    batch = batch_of(runtime.transact, item("new", 20, 5, {"page": 3}), item("other", 21), job=job)
    lease = claim(runtime.transact, batch)
    assert lease is not None
    assert tv.delete(["new"]).digits == 1
    finish(runtime.transact, lease)
    assert failures(runtime.transact, job) == {"new": "deleted"}
    kept = select(Failure.picture, Failure.label, Failure.attributes)
    assert runtime.transact(lambda session: tuple(session.execute(kept).one())) == (None, None, None)
    assert counts(runtime.transact, job) == {"accepted": 2, "succeeded": 1, "failed": 1}
    assert [each.key for each in tv.digits(collection="default")] == ["other"]
    for tower in towers:
        keys = [each.key for each in nearest(runtime.transact, tower, vector(tower, 20), k=9).neighbours]
        assert "new" not in keys
    send(runtime.transact, item("new", 20))  # sent again, it is stored again
    assert [each.key for each in tv.digits(collection="default")] == ["other", "new"]


def test_what_is_asked_wrongly_changes_nothing(tv: Twinvec, towers: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="several, in a list"):
        tv.delete("a", collection="one")
    with pytest.raises(InvalidRequest, match="a key is a string"):
        tv.delete(["a", 7], collection="one")  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match="a label is an integer"):
        tv.label({"a": 1, "b": "seven"}, collection="one")  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match="mapping"):
        tv.label(["a"], collection="one")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="attributes are a dict"):
        tv.set_attributes({"a": [1]}, collection="one")  # type: ignore[dict-item]
    assert [each.label for each in tv.digits(collection="one")] == [0, 1, 0, 1]
