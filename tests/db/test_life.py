"""A tower goes live when it was judged and passed, and the one before it can come back as it was."""

from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from sqlalchemy import select, text

from db.errors import NotPromotable, NotRetirable, UnknownTower
from db.queue import finish as finishing
from db.tables import Tower
from db.vectors import backfill, lifecycle, partitions, towers
from tests.makers import (
    Ledger,
    age,
    bury,
    claim,
    computed,
    digit_of,
    embed,
    item,
    nearest,
    pass_judging,
    promote,
    register,
    send,
    stored,
    together,
    tower_statuses,
    vector,
    vectors,
)


def embed_all(ledger: Ledger) -> int:
    """Embed every queued batch; how many there were."""
    query = text("SELECT id FROM batches WHERE state = 'queued' AND cardinality(digits) > 0 ORDER BY id")
    queued = ledger(lambda session: session.execute(query).scalars().all())
    for batch in queued:
        embed(ledger, batch)
    return len(queued)


def tower_row(ledger: Ledger, tower: int) -> Tower:
    found: Tower = ledger(lambda session: session.execute(select(Tower).where(Tower.id == tower)).scalar_one())
    return found


@pytest.fixture
def first(ledger: Ledger) -> int:
    """A live tower with five digits embedded."""
    tower = register(ledger)
    embed(ledger, send(ledger, *(item(f"key {seed}", seed) for seed in range(5))))
    return tower


@pytest.fixture
def second(ledger: Ledger, first: int) -> int:
    """One that went live after it."""
    newer = register(ledger, "second")
    embed_all(ledger)
    assert promote(ledger) == newer
    return newer


def go_back(ledger: Ledger, **given: bool) -> lifecycle.Rollback:
    found: lifecycle.Rollback = ledger(lifecycle.roll_back, maintain=True, **given)
    return found


def test_a_candidate_does_not_go_live_unjudged(ledger: Ledger, first: int) -> None:
    register(ledger, "newer")
    embed_all(ledger)
    ledger(backfill.end_finished)
    assert ledger(lifecycle.promote_ready) is None
    assert ledger(towers.live).id == first


def test_a_candidate_that_does_not_pass_is_rejected_with_every_figure(ledger: Ledger, first: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    assert pass_judging(ledger, passes=False) == newer
    assert ledger(lifecycle.promote_ready) is None
    assert tower_statuses(ledger) == {first: "live", newer: "rejected"}
    verdict = tower_row(ledger, newer).verdict
    assert verdict is not None
    assert (verdict["passed"], verdict["live"], verdict["forced_by"]) == (False, first, None)
    assert verdict["reasons"][0] == {
        "name": "for the test",
        "live": 1,
        "candidate": 1,
        "tolerance": 0,
        "passed": False,
        "said": "it was measured",
    }


def test_one_that_passed_waits_to_be_asked_for_where_that_is_set(ledger: Ledger, first: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    pass_judging(ledger)
    assert ledger(lifecycle.promote_ready, auto=False) is None
    decision = ledger(lifecycle.promote, newer, by="me", force=False, maintain=True)
    assert (decision.tower, decision.rejected_because) == (newer, None)
    assert ledger(towers.live).id == newer


def test_a_vector_that_is_lost_after_the_judging_holds_the_promotion_back(ledger: Ledger, first: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    pass_judging(ledger)
    ledger(lambda session: session.execute(text("DELETE FROM embeddings WHERE tower = :tower"), {"tower": newer}))
    assert ledger(lifecycle.promote_ready) is None
    assert ledger(towers.live).id == first
    assert embed_all(ledger) == 1
    assert promote(ledger) == newer


def test_a_verdict_on_another_live_tower_than_stands_now_is_no_longer_one(ledger: Ledger, second: int) -> None:
    third = register(ledger, "third")
    embed_all(ledger)
    pass_judging(ledger)
    go_back(ledger)
    assert ledger(lifecycle.promote_ready) is None
    assert tower_row(ledger, third).verdict is None
    assert promote(ledger) == third


def test_of_two_rounds_of_upkeep_one_opens_a_judging(ledger: Ledger, first: int) -> None:
    register(ledger, "newer")
    embed_all(ledger)
    ledger(backfill.end_finished)
    opened = together(*[lambda: ledger(lifecycle.open_judging)] * 4)
    assert [type(each) for each in opened].count(int) == 1


def test_no_vector_slips_between_the_count_and_the_promotion(ledger: Ledger, first: int) -> None:
    """Digits come all the time while upkeep promotes: none is ever without a vector under the live tower."""
    newer = register(ledger, "newer")
    embed_all(ledger)
    pass_judging(ledger)
    batches = [send(ledger, item(f"late {seed}", 100 + seed)) for seed in range(6)]
    claims = [claim(ledger, batch) for batch in batches]
    works = [(lease, *computed(ledger, lease)) for lease in claims if lease is not None]
    finishes = [partial(ledger, _finish, work) for work in works]
    together(*finishes, lambda: ledger(lifecycle.promote_ready))
    if ledger(towers.live).id != newer:
        promote(ledger)
    assert ledger(towers.live).id == newer
    assert set(vectors(ledger, newer)) == set(stored(ledger))


def _finish(session, work):  # type: ignore[no-untyped-def]  # a step of a worker
    lease, ids, found = work
    return finishing.finish(session, [lease], ids, found, {})


def test_a_rollback_answers_as_before_to_the_bit_with_what_came_meanwhile(ledger: Ledger, first: int) -> None:
    query = vector(first, 3)
    before = nearest(ledger, first, query, k=5).neighbours
    threshold = ledger(towers.searched).threshold
    newer = register(ledger, "second")
    embed_all(ledger)
    promote(ledger)
    embed(ledger, send(ledger, item("meanwhile", 3)))
    assert go_back(ledger).decision is not None
    space = ledger(towers.searched)
    assert (space.tower, space.threshold) == (first, threshold)
    after = nearest(ledger, first, query, k=6).neighbours
    assert [each for each in after if each.key != "meanwhile"] == before
    assert after[1].key == "meanwhile"
    assert tower_statuses(ledger) == {first: "live", newer: "previous"}
    assert vectors(ledger, first).keys() == vectors(ledger, newer).keys()


def test_a_rollback_waits_for_digits_that_have_no_vector_under_it(ledger: Ledger, first: int, second: int) -> None:
    ledger(lifecycle.keep_previous, days=7, maintain=False)
    embed(ledger, send(ledger, item("meanwhile", 9)))
    assert len(vectors(ledger, first)) == 5
    asked = go_back(ledger)
    assert (asked.missing, asked.decision) == (1, None)
    assert ledger(lifecycle.roll_back_ready) is None, "it is not complete"
    embed(ledger, send(ledger, item("while it waits", 10)))
    embed_all(ledger)
    ledger(backfill.end_finished)
    assert ledger(lifecycle.roll_back_ready).tower == first
    assert ledger(towers.live).id == first
    assert set(vectors(ledger, first)) == set(stored(ledger))


def test_a_rollback_at_once_says_what_is_not_found_and_embeds_it_then(ledger: Ledger, first: int, second: int) -> None:
    ledger(lifecycle.keep_previous, days=7, maintain=False)
    embed(ledger, send(ledger, item("meanwhile", 9)))
    rolled = go_back(ledger, at_once=True)
    assert (rolled.missing, rolled.tower) == (1, first)
    assert ledger(towers.live).id == first
    assert embed_all(ledger) == 1
    assert set(vectors(ledger, first)) == set(stored(ledger))


def test_a_rollback_asked_for_twice_does_not_turn_back(ledger: Ledger, first: int, second: int) -> None:
    for _ in range(2):
        rolled = ledger(lifecycle.roll_back, maintain=True, leaving=second)
        assert (rolled.tower, rolled.missing) == (first, 0)
    assert ledger(towers.live).id == first
    with pytest.raises(NotPromotable, match="not live"):
        ledger(lifecycle.roll_back, maintain=True, leaving=99)


def test_a_rollback_whose_backfill_kills_its_workers_is_given_up(ledger: Ledger, first: int, second: int) -> None:
    ledger(lifecycle.keep_previous, days=7, maintain=False)
    embed(ledger, send(ledger, item("meanwhile", 9)))
    go_back(ledger)
    bury(ledger, ledger(lambda session: session.execute(text("SELECT max(id) FROM batches")).scalar_one()))
    assert "died" in ledger(lifecycle.roll_back_ready).rejected_because
    assert ledger(lifecycle.roll_back_ready) is None
    assert ledger(towers.live).id == second


def test_a_rollback_while_a_backfill_runs_leaves_the_candidate_to_be_judged(ledger: Ledger, second: int) -> None:
    third = register(ledger, "third")
    go_back(ledger)
    assert embed_all(ledger) == 1
    assert promote(ledger) == third


def test_no_candidate_goes_live_while_a_rollback_waits(ledger: Ledger, first: int, second: int) -> None:
    ledger(lifecycle.keep_previous, days=7, maintain=False)
    embed(ledger, send(ledger, item("meanwhile", 9)))
    third = register(ledger, "third")
    embed_all(ledger)
    assert pass_judging(ledger) == third
    assert go_back(ledger).decision is None
    assert ledger(lifecycle.promote_ready) is None
    with pytest.raises(NotPromotable, match="rollback is under way"):
        ledger(lifecycle.promote, third, by="me", force=False, maintain=True)
    embed_all(ledger)
    ledger(backfill.end_finished)
    assert ledger(lifecycle.roll_back_ready).tower == first
    assert tower_statuses(ledger) == {first: "live", second: "previous", third: "candidate"}


def test_a_promotion_and_a_rollback_at_once_leave_one_tower_live(ledger: Ledger, first: int, second: int) -> None:
    third = register(ledger, "third")
    embed_all(ledger)
    pass_judging(ledger)

    def turn_back() -> None:
        with suppress(NotPromotable):
            ledger(lifecycle.roll_back, maintain=True, leaving=second)

    together(turn_back, lambda: ledger(lifecycle.promote_ready))
    found = tower_statuses(ledger)
    assert list(found.values()).count("live") == 1
    live = ledger(towers.live).id
    assert live in (first, third)
    assert set(vectors(ledger, live)) == set(stored(ledger))


def test_there_is_nothing_to_go_back_to_but_a_previous_tower(ledger: Ledger, first: int) -> None:
    with pytest.raises(NotPromotable, match="no previous tower"):
        go_back(ledger)


def test_the_previous_tower_has_the_vectors_of_new_digits_for_its_time(ledger: Ledger, first: int, second: int) -> None:
    keep = partial(ledger, lifecycle.keep_previous, days=7, maintain=True)
    embed(ledger, send(ledger, item("meanwhile", 9)))
    assert vectors(ledger, first)["meanwhile"] == pytest.approx(vector(first, 9))
    age(ledger, 6.9)
    assert keep() == []
    age(ledger, 0.2)
    assert keep() == [first]
    assert keep() == []
    assert tower_statuses(ledger)[first] == "retired"
    embed(ledger, send(ledger, item("afterwards", 10)))
    assert "afterwards" not in vectors(ledger, first)
    age(ledger, 0.001)
    assert ledger(partitions.partitions_to_drop) == [first]


def test_weights_of_the_previous_tower_that_are_trained_again_keep_their_vectors(
    ledger: Ledger, first: int, second: int
) -> None:
    assert register(ledger) == first
    assert tower_statuses(ledger) == {first: "candidate", second: "live"}
    assert embed_all(ledger) == 0
    assert promote(ledger) == first


def test_a_rejected_tower_goes_live_by_force_and_that_is_on_record(ledger: Ledger, first: int) -> None:
    newer = register(ledger, "newer")
    embed_all(ledger)
    pass_judging(ledger, passes=False)
    ask = partial(ledger, lifecycle.promote, newer, by="me@here", maintain=True)
    with pytest.raises(NotPromotable, match="it was measured"):
        ask(force=False)
    assert "embedded under it anew" in ask(force=True)
    assert embed_all(ledger) == 1
    assert pass_judging(ledger, passes=False) == newer
    assert ledger(lifecycle.promote_ready, auto=False).tower == newer
    verdict = tower_row(ledger, newer).verdict
    assert verdict is not None
    assert (verdict["passed"], verdict["forced_by"]) == (False, "me@here")


def test_a_retired_tower_can_be_a_candidate_again(ledger: Ledger, first: int, second: int) -> None:
    assert ledger(lifecycle.retire, first, by="me") == "retired"
    assert "5 digits" in ledger(lifecycle.promote, first, by="me", force=False, maintain=True)
    embed_all(ledger)
    assert promote(ledger) == first


def test_a_candidate_is_rejected_by_an_operator(ledger: Ledger, first: int) -> None:
    newer = register(ledger, "newer")
    assert ledger(lifecycle.retire, newer, by="me") == "rejected"
    verdict = tower_row(ledger, newer).verdict
    assert verdict is not None
    assert verdict["reasons"][0]["said"] == "me retired it"


def test_the_live_tower_is_never_retired(ledger: Ledger, first: int) -> None:
    with pytest.raises(NotRetirable):
        ledger(lifecycle.retire, first, by="me")
    with pytest.raises(UnknownTower):
        ledger(lifecycle.retire, 99, by="me")


def test_vectors_that_are_not_finite_may_be_missing_under_the_previous_tower_alone(
    ledger: Ledger, first: int, second: int
) -> None:
    lease = claim(ledger, send(ledger, item("odd", 20), item("even", 21)))
    assert lease is not None
    ids, found = computed(ledger, lease)
    found[first][ids == digit_of(ledger, "odd")] = np.nan
    ledger(finishing.finish, leases=[lease], digits=ids, vectors=found, seconds={}, lenient=frozenset([first]))
    assert {"odd", "even"} <= vectors(ledger, second).keys()
    assert "even" in vectors(ledger, first)
    assert "odd" not in vectors(ledger, first)


def test_a_backfill_says_how_far_it_is_and_what_another_would_take(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(backfill, "BACKFILL_BATCH", 1)
    monkeypatch.setattr(backfill, "MEASURED", 1)
    nothing = ledger(backfill.estimate)
    assert (nothing.digits, nothing.seconds, nothing.measured_on) == (5, None, None)
    assert nothing.bytes > 5 * 4 * 128
    newer = register(ledger, "newer")
    query = text("SELECT id FROM batches WHERE state = 'queued' ORDER BY id")
    batches = ledger(lambda session: session.execute(query).scalars().all())
    (begun,) = ledger(backfill.progress)
    assert (begun.tower, begun.total, begun.done, begun.rate, begun.remaining) == (newer, 5, 0, None, None)
    for batch in batches[:3]:
        embed(ledger, batch)
    (under_way,) = ledger(backfill.progress)
    assert under_way.done == 3
    assert under_way.rate is not None
    assert under_way.remaining == pytest.approx(2 / under_way.rate)
    known = ledger(backfill.estimate)
    assert known.measured_on == "backfill"
    assert known.seconds > 0
