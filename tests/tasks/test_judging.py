"""A candidate is judged by what it makes of the stored digits, and a worse one is refused with its figures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select, text

from db import judgements
from db.tables import AskedQuery, Tower
from db.vectors import towers
from tasks import judging
from tasks.embed import embed
from tasks.judging import judge
from tasks.query import look_up
from tasks.upkeep import sweep
from tests.makers import Array, PickedPixels, batch_of, digit_of, glyph, item, register, tower_statuses
from twinvec_client.contract.messages import Nearest
from worker.runtime import Runtime

DIGITS = 300  # of which about a tenth is held out


def label_of(seed: int) -> int:
    return seed % 4


class ByLabel(PickedPixels):
    """Towers that put each label at a place of its own, but for those that `odd` says, by id: it gives the label that
    a seed is taken for, or a vector."""

    def __init__(self, **odd: Callable[[int], Any]) -> None:
        self.seeds = {glyph(seed): seed for seed in range(DIGITS)}
        self.odd = odd

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        place = self.odd.get(f"tower_{tower}", label_of)

        def call(pixels: Array) -> Array:
            rows = np.zeros((len(pixels), 128), np.float32)
            for row, each in zip(rows, pixels, strict=True):
                found = place(self.seeds[each.tobytes()])
                row[:] = found if np.ndim(found) else np.eye(128)[found]
            return rows

        return call


@pytest.fixture
def live(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> int:
    """A live tower with labelled digits."""
    monkeypatch.setattr(judging, "ENOUGH", 10)
    runtime.towers = ByLabel()
    tower = register(runtime.transact)
    items = [item(f"key {seed}", seed, label_of(seed)) for seed in range(DIGITS)]
    embed(batch_of(runtime.transact, *items), runtime)
    return tower


def run_all(runtime: Runtime) -> None:
    """Work and sweep until nothing is queued."""
    query = text("SELECT id FROM batches WHERE state = 'queued' ORDER BY id")
    while queued := runtime.transact(lambda session: session.execute(query).scalars().all()):
        for batch in queued:
            embed(batch, runtime)
            judge(batch, runtime)
        sweep(runtime)


def verdict_of(runtime: Runtime, tower: int) -> dict[str, Any]:
    found = runtime.transact(lambda session: session.execute(select(Tower.verdict).where(Tower.id == tower))).scalar()
    assert found is not None
    return dict(found)


def failed(verdict: dict[str, Any]) -> set[str]:
    return {reason["name"] for reason in verdict["reasons"] if not reason["passed"]}


def candidate(runtime: Runtime, odd: Callable[[int], Any] = label_of) -> tuple[int, dict[str, Any]]:
    """A tower that is registered, backfilled and judged; its verdict."""
    runtime.towers = ByLabel(tower_2=odd)
    tower = register(runtime.transact, "newer")
    assert tower == 2
    run_all(runtime)
    return tower, verdict_of(runtime, tower)


def test_a_candidate_as_good_goes_live_with_its_figures(runtime: Runtime, live: int) -> None:
    tower, verdict = candidate(runtime)
    assert tower_statuses(runtime.transact) == {live: "previous", tower: "live"}
    assert (verdict["passed"], verdict["live"]) == (True, live)
    names = {"complete", "recomputed", "pair_accuracy", "recall_1", "recall_10", "map_at_r", "threshold", "neighbours"}
    assert {reason["name"] for reason in verdict["reasons"]} == names
    assert verdict["figures"]["held_out"]["digits"] >= 10
    assert verdict["figures"]["held_out"]["candidate"]["recall_1"] == 1


def test_a_candidate_that_learnt_shuffled_labels_is_refused(runtime: Runtime, live: int) -> None:
    shuffled = np.random.default_rng(0).integers(0, 4, DIGITS)
    tower, verdict = candidate(runtime, lambda seed: int(shuffled[seed]))
    assert tower_statuses(runtime.transact) == {live: "live", tower: "rejected"}
    assert {"pair_accuracy", "map_at_r"} <= failed(verdict)
    (accuracy,) = [reason for reason in verdict["reasons"] if reason["name"] == "pair_accuracy"]
    assert accuracy["live"] == 1
    assert accuracy["candidate"] < 0.8


def test_a_candidate_whose_vectors_are_nan_is_refused(runtime: Runtime, live: int) -> None:
    tower, verdict = candidate(runtime, lambda seed: np.full(128, np.nan if seed == 7 else 0))
    assert tower_statuses(runtime.transact) == {live: "live", tower: "rejected"}
    assert failed(verdict) == {"finite"}
    assert "NaN" in verdict["reasons"][0]["said"]


def test_a_candidate_that_is_wrong_on_a_judged_pair_is_refused(runtime: Runtime, live: int) -> None:
    """The two are not held out, so that all other figures are as good."""
    held = set(runtime.transact(judging._held_out, (live, live))[0].tolist())
    free = [seed for seed in range(0, 100, 4) if digit_of(runtime.transact, f"key {seed}") not in held]
    one, other = free[:2]
    said = judgements.Said(("default", f"key {one}"), ("default", f"key {other}"), True)
    assert runtime.transact(judgements.record, [said]) == []
    tower, verdict = candidate(runtime, lambda seed: 9 if seed == one else label_of(seed))
    assert tower_statuses(runtime.transact) == {live: "live", tower: "rejected"}
    assert failed(verdict) == {"judged_pairs"}
    assert verdict["figures"]["judged_pairs"] == {"pairs": 1, "live": 1, "candidate": 0, "worse": 1}


def test_a_judged_pair_that_the_live_tower_has_wrong_refuses_nobody(runtime: Runtime, live: int) -> None:
    said = judgements.Said(("default", "key 0"), ("default", "key 1"), True)
    runtime.transact(judgements.record, [said])
    _, verdict = candidate(runtime)
    assert verdict["passed"]
    assert verdict["figures"]["judged_pairs"]["worse"] == 0


def test_a_candidate_whose_stored_vectors_are_not_its_own_is_refused(runtime: Runtime, live: int) -> None:
    runtime.towers = ByLabel()
    tower = register(runtime.transact, "newer")
    query = text("SELECT id FROM batches WHERE state = 'queued'")
    for batch in runtime.transact(lambda session: session.execute(query).scalars().all()):
        embed(batch, runtime)
    runtime.towers = ByLabel(tower_2=lambda seed: np.eye(128)[label_of(seed)] * 1.001)
    sweep(runtime)
    run_all(runtime)
    assert tower_statuses(runtime.transact) == {live: "live", tower: "rejected"}
    verdict = verdict_of(runtime, tower)
    assert failed(verdict) == {"recomputed"}
    assert verdict["figures"]["recomputed"]["worst"] == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(("accuracy", "status"), [(0.965, "live"), (0.955, "rejected")])
def test_where_few_digits_are_held_out_the_test_images_decide(
    runtime: Runtime, live: int, monkeypatch: pytest.MonkeyPatch, accuracy: float, status: str
) -> None:
    monkeypatch.setattr(judging, "ENOUGH", 10_000)
    runtime.towers = ByLabel()
    tower = register(runtime.transact, "newer")
    metrics = text(
        "UPDATE towers SET metrics = jsonb_build_object('pair_accuracy', cast(:accuracy AS float8)) WHERE id = :id"
    )
    runtime.transact(lambda session: session.execute(metrics, {"accuracy": accuracy, "id": tower}))
    sweep(runtime)
    run_all(runtime)
    assert tower_statuses(runtime.transact)[tower] == status
    (reason,) = [each for each in verdict_of(runtime, tower)["reasons"] if each["name"] == "pair_accuracy"]
    assert (reason["live"], reason["candidate"], reason["tolerance"]) == (0.97, accuracy, 0.01)


def test_a_worker_that_dies_while_it_judges_is_followed_by_another(runtime: Runtime, live: int) -> None:
    runtime.towers = ByLabel()
    tower = register(runtime.transact, "newer")
    query = text("SELECT id FROM batches WHERE state = 'queued'")
    for batch in runtime.transact(lambda session: session.execute(query).scalars().all()):
        embed(batch, runtime)
    sweep(runtime)
    (batch,) = runtime.transact(lambda session: session.execute(query).scalars().all())
    lost = runtime.claim(batch)
    assert lost is not None
    runtime.transact(
        lambda session: session.execute(text("UPDATE batches SET lease_until = now() WHERE token IS NOT NULL"))
    )
    sweep(runtime)
    judge(batch, runtime)
    assert runtime.transact(towers.live).id == tower


def test_what_is_looked_up_while_a_candidate_is_filled_is_asked_under_both(runtime: Runtime, live: int) -> None:
    runtime.settings = runtime.settings.model_copy(update={"asked_share": 1.0})
    plain = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
    asking = {"queries": [{"glyph": glyph(seed)} for seed in (1, 2, 3)], "k": 1, "match": False, "pictures": False}
    look = Nearest.read({**asking, **plain, "normalise": False})
    look_up(look, runtime)
    assert kept(runtime) == 0, "there is no candidate"
    tower = register(runtime.transact, "newer")
    look_up(look, runtime)
    assert kept(runtime) == 3
    run_all(runtime)
    figures = verdict_of(runtime, tower)["figures"]["real_queries"]
    assert figures == {"queries": 3, "overlap": 1.0, "agreement": 1.0}
    assert kept(runtime) == 0


def kept(runtime: Runtime) -> int:
    count = select(func.count()).select_from(AskedQuery)
    return int(runtime.transact(lambda session: session.execute(count).scalar_one()))
