"""Vectors come back under the tower that made them, by key, by job, and all of them, from a real worker."""

import asyncio
import hashlib
import uuid
from importlib.util import find_spec

import numpy as np
import pytest

from db.queue import contents
from tests.lacking import lacking
from tests.makers import batch_of, embed, item, register, send, vector
from twinvec_client import AsyncTwinvec, EmbedJob, InvalidRequest, NoTower, TowerNotLive, Twinvec, UnknownJob, Vectors
from twinvec_client.contract.messages import GetVectors, VectorsOfJob
from worker.runtime import Runtime

FIRST = hashlib.sha256(b"first").hexdigest()


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower, digits 0 to 9 in `one` with labels, and `other` in `two` without."""
    ledger = runtime.transact
    live = register(ledger)
    embed(ledger, send(ledger, *(item(str(seed), seed, seed) for seed in range(10)), collection="one"))
    embed(ledger, send(ledger, item("other", 50), collection="two"))
    return live


def check(found: Vectors, tower: int, seeds: dict[str, int]) -> None:
    """These digits, in this order, with their vectors."""
    assert (found.tower, found.keys) == (FIRST, list(seeds))
    assert (found.vectors.shape, found.vectors.dtype) == ((len(seeds), 128), np.dtype(np.float32))
    assert all((row == vector(tower, seed)).all() for row, seed in zip(found.vectors, seeds.values(), strict=True))


def test_keys_give_vectors_in_their_order_and_each_once(
    tv: Twinvec, runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinvec_client.vectors.MAX_PAGE", 2)
    send(runtime.transact, item("due", 20), collection="one")
    found = tv.vectors(["7", "nothing", "3", "due", "3", "other", "1", "7"], collection="one")
    check(found, tower, {"7": 7, "3": 3, "1": 1})
    assert (found.collections, found.labels, len(found)) == (["one"] * 3, [7, 3, 1], 3)
    check(tv.vectors([]), tower, {})
    assert tv.vectors(["other"], collection="two").labels == [None]


def test_all_of_them_come_in_pages(tv: Twinvec, tower: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinvec_client.review.MAX_PAGE", 4)
    pages = list(tv.vector_pages())
    assert [len(page) for page in pages] == [4, 4, 3]
    assert [key for page in pages for key in page.keys] == [*map(str, range(10)), "other"]
    (only,) = tv.vector_pages(collection="two")
    check(only, tower, {"other": 50})


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_job_gives_the_vectors_of_all_its_digits(
    tv: Twinvec, runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """New ones, those that were unchanged, one of several batches once; not one that failed or waits."""
    monkeypatch.setattr("tasks.vectors.DIGITS", size)
    monkeypatch.setattr(contents, "_TOGETHER", 2)
    ledger, job = runtime.transact, uuid.uuid4()
    embed(ledger, send(ledger, item("5", 5), item("a", 30), job=job, collection="one", open=True))
    assert send(ledger, item("6", 6), item("a", 30), job=job, seq=1, collection="one", open=True) is None
    embed(ledger, batch_of(ledger, item("b", 31), job=job, seq=2, collection="one", open=True))
    send(ledger, item("waits", 32), job=job, seq=3, total=6, collection="one")
    handle = tv.job(str(job))
    assert isinstance(handle, EmbedJob)
    found = handle.vectors()
    assert sorted(found.keys) == ["5", "6", "a", "b"]
    check(tv.vectors(found.keys, collection="one"), tower, dict(zip(found.keys, map(_seed, found.keys), strict=True)))
    assert (found.vectors == tv.vectors(found.keys, collection="one").vectors).all()


def _seed(key: str) -> int:
    return {"a": 30, "b": 31}[key] if key.isalpha() else int(key)


def test_another_tower_is_never_mixed_in(tv: Twinvec, runtime: Runtime, tower: int) -> None:
    other = hashlib.sha256(b"another").hexdigest()
    job = uuid.uuid4()
    send(runtime.transact, item("z", 60), job=job)
    for request in (
        GetVectors(collection="one", keys=["1"], tower=other),
        VectorsOfJob(job=str(job), after=0, tower=other),
    ):
        with pytest.raises(TowerNotLive):
            tv._connection.ask(request)


def test_what_is_not_there_is_said(tv: Twinvec, runtime: Runtime) -> None:
    with pytest.raises(NoTower):
        tv.vectors(["1"])
    register(runtime.transact)
    with pytest.raises(UnknownJob):
        EmbedJob(tv._connection, str(uuid.uuid4()), tv._pace()).vectors()
    with pytest.raises(InvalidRequest, match="several, in a list"):
        tv.vectors("1")
    assert list(tv.vector_pages()) == []


def test_asyncio_gets_the_same(tv: Twinvec, broker_url: str, tower: int) -> None:
    async def read() -> tuple[Vectors, list[Vectors]]:
        async with AsyncTwinvec(broker_url) as other:
            return await other.vectors(["2", "1"], collection="one"), [page async for page in other.vector_pages()]

    found, pages = asyncio.run(read())
    check(found, tower, {"2": 2, "1": 1})
    assert sum(map(len, pages)) == 11


def test_arrow_gets_keys_labels_and_vectors(tv: Twinvec, tower: int) -> None:
    found = tv.vectors(["2", "1"], collection="one")
    table = found.to_arrow()
    assert table.column_names == ["key", "collection", "label", "vector"]
    assert table["key"].to_pylist() == ["2", "1"]
    assert table["label"].to_pylist() == [2, 1]
    assert table["vector"][1].as_py() == vector(tower, 1).tolist()
    assert table.schema.metadata == {b"tower": FIRST.encode()}


def test_a_frame_gets_keys_labels_and_vectors() -> None:
    if find_spec("pandas") is None:
        lacking("pandas, which is pinned for Python before 3.14")
    found = Vectors(FIRST, ["2", "x"], ["one", "one"], [2, None], np.stack([vector(1, 2), vector(1, 3)]))
    frame = found.to_frame()
    assert frame.attrs == {"tower": FIRST}
    assert list(frame["key"]) == ["2", "x"]
    assert list(frame["label"].isna()) == [False, True]
    assert (frame.filter(regex=r"^v\d+$").to_numpy() == found.vectors).all()
