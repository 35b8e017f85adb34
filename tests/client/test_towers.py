"""An operator's wishes about towers, by a client of a real worker."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.makers import embed, item, pass_judging, promote, register, send
from twinvec_client import NoTower, NotPromotable, NotRetirable, Twinvec, UnknownTower
from worker.runtime import Runtime


@pytest.fixture
def two(runtime: Runtime, tv: Twinvec) -> Iterator[tuple[int, int]]:
    """The previous tower and the live one, with three digits under both."""
    first = register(runtime.transact)
    embed(runtime.transact, send(runtime.transact, *(item(f"key {seed}", seed) for seed in range(3))))
    second = register(runtime.transact, "second")
    backfill_all(runtime)
    assert promote(runtime.transact) == second
    yield first, second


def backfill_all(runtime: Runtime) -> None:
    query = text("SELECT id FROM batches WHERE state = 'queued' AND cardinality(digits) > 0")
    for batch in runtime.transact(lambda session: session.execute(query).scalars().all()):
        embed(runtime.transact, batch)


def statuses(tv: Twinvec) -> dict[int, str]:
    return {tower.id: tower.status for tower in tv.towers()}


def test_a_rollback_and_back(tv: Twinvec, two: tuple[int, int]) -> None:
    first, second = two
    change = tv.rollback()
    assert (change.tower, change.status, change.missing, change.said) == (first, "live", 0, None)
    assert tv.promote(second).status == "live"
    assert statuses(tv) == {first: "previous", second: "live"}
    assert tv.promote(second).said is None, "it is live already"


def test_a_candidate_that_did_not_pass_needs_force(tv: Twinvec, runtime: Runtime, two: tuple[int, int]) -> None:
    third = register(runtime.transact, "third")
    (running,) = tv.backfill().running
    assert (running.tower, running.total, running.done) == (third, 3, 0)
    assert "lack a vector" in (tv.promote(third).said or "")
    backfill_all(runtime)
    pass_judging(runtime.transact, passes=False)
    with pytest.raises(NotPromotable, match="it was measured"):
        tv.promote(third)
    change = tv.promote(third, force=True)
    assert (change.status, change.missing) == ("candidate", 3)
    (newest, *_) = tv.towers()
    assert newest.verdict is None
    assert tv.judge_tower(third).status == "candidate"


def test_what_is_refused_is_an_error_of_its_own(tv: Twinvec, two: tuple[int, int]) -> None:
    first, second = two
    with pytest.raises(NotRetirable):
        tv.retire(second)
    assert tv.retire(first).status == "retired"
    with pytest.raises(NotPromotable, match="no previous tower"):
        tv.rollback()
    for call in (tv.promote, tv.retire, tv.judge_tower):
        with pytest.raises(UnknownTower):
            call(99)
    with pytest.raises(NotPromotable, match="the candidate alone"):
        tv.judge_tower(second)


def test_without_a_tower_there_is_none_to_go_back_to(tv: Twinvec) -> None:
    with pytest.raises(NoTower):
        tv.rollback()
    assert tv.backfill().estimate.digits == 0
