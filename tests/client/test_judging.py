"""Judged pairs as applications give, read and look for them, answered by a real worker."""

import asyncio
from datetime import datetime

import pytest

from tests.makers import embed, item, register, send
from twinvec_client import AsyncTwinvec, InvalidRequest, Judgement, NoTower, Twinvec, UnknownKey
from worker.runtime import Runtime


@pytest.fixture
def stored(runtime: Runtime) -> None:
    """Six digits under a live tower: a to d in `one`, b and e in `two`. `twin` has the pixels of `a`."""
    ledger = runtime.transact
    register(ledger)
    embed(ledger, send(ledger, *(item(key, seed, seed % 2) for seed, key in enumerate("abcd")), collection="one"))
    embed(ledger, send(ledger, item("b", 11), item("e", 12, 3), collection="two"))


def said(found: Judgement) -> tuple[str, str, bool, str | None]:
    return found.key, found.other_key, found.same, found.by


@pytest.mark.usefixtures("stored")
def test_what_is_said_of_pairs_is_kept_and_listed(tv: Twinvec) -> None:
    tv.judge("b", "a", same=True, collection="one", by="me")
    tv.judge("a", "e", same=False, collection="one", other_collection="two")
    found = list(tv.judgements())
    assert [said(each) for each in found] == [("a", "b", True, "me"), ("a", "e", False, None)]
    assert (found[1].collection, found[1].other_collection) == ("one", "two")
    assert datetime.fromisoformat(found[0].at) <= datetime.fromisoformat(found[1].at)
    assert [said(each)[:2] for each in tv.judgements(collection="two")] == [("a", "e")]
    tv.judge("a", "b", same=None, collection="one")
    assert [said(each)[:2] for each in tv.judgements()] == [("a", "e")]


def test_whole_lists_are_judged_and_read_page_by_page(
    tv: Twinvec, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(runtime.transact, *(item(f"{at:02}", at) for at in range(20)))
    monkeypatch.setattr("twinvec_client.judging.MAX_PAGE", 6)
    pairs = [("00", f"{at:02}", at % 3 == 0) for at in range(1, 22)]
    assert tv.judge_many(iter(pairs)) == [("00", "20"), ("00", "21")]
    assert [said(each)[1:3] for each in tv.judgements()] == [pair[1:] for pair in pairs[:-2]]


@pytest.mark.usefixtures("stored")
def test_both_faces_say_and_read_the_same(tv: Twinvec, broker_url: str) -> None:
    async def use() -> None:
        async with AsyncTwinvec(broker_url) as other:
            await other.judge("a", "b", same=True, collection="one", by="loop")
            assert await other.judge_many([("a", "c", False), ("a", "x", True)], collection="one") == [("a", "x")]
            assert [each async for each in other.judgements()] == list(tv.judgements())
            proposed = await other.pairs_to_judge(collection="one")
            assert proposed == tv.pairs_to_judge(collection="one")

    asyncio.run(use())
    assert [said(each)[:3] for each in tv.judgements()] == [("a", "b", True), ("a", "c", False)]


def test_pairs_worth_judging_are_two_labels_near_each_other_and_those_at_the_threshold(
    tv: Twinvec, runtime: Runtime
) -> None:
    ledger = runtime.transact
    with pytest.raises(NoTower):
        tv.pairs_to_judge()
    register(ledger)
    near = [item("wrong", 0, 1), item("right", 0, 0)]  # the same pixels
    embed(ledger, send(ledger, *near, *(item(f"{seed}", seed, seed % 2) for seed in range(1, 5)), item("unknown", 9)))
    proposed = tv.pairs_to_judge()
    first, second = proposed[:2]
    assert ({first.one.key, first.other.key}, first.distance, first.why) == ({"wrong", "right"}, 0, "labels differ")
    assert (first.one.picture, first.one.label) == (near[0].pixels, 1)
    assert "unknown" in {second.one.key, second.other.key}, "no label answers that one"
    assert second.why == "near the threshold"
    names = [key for pair in proposed for key in (pair.one.key, pair.other.key)]
    assert max(names.count(key) for key in names) == 2
    tv.judge("right", "wrong", same=True)
    assert {"wrong", "right"} not in [{pair.one.key, pair.other.key} for pair in tv.pairs_to_judge()]
    assert len(tv.pairs_to_judge(limit=2)) == 2


@pytest.mark.usefixtures("stored")
def test_what_is_said_wrongly_is_refused_and_nothing_kept(tv: Twinvec) -> None:
    with pytest.raises(UnknownKey, match="'a' and 'e'"):
        tv.judge("a", "e", same=True, collection="one")
    with pytest.raises(InvalidRequest, match="two digits"):
        tv.judge("a", "a", same=True, collection="one")
    with pytest.raises(InvalidRequest, match="True, False, or None"):
        tv.judge("a", "b", same="yes", collection="one")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="a pair is"):
        tv.judge_many(["ab"], collection="one")  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match="by is"):
        tv.judge("a", "b", same=True, collection="one", by="x" * 256)
    assert list(tv.judgements()) == []
