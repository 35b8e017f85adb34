"""Stored vectors that are not what a worker computes raise an alarm, and new digits far from old ones are counted."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

from cli.doctor.finding import OK, PROBLEM, WARNING
from cli.doctor.towers import towers
from db.vectors import watch
from tasks.embed import embed
from tasks.watch import look_after
from tests.makers import Array, PickedPixels, batch_of, item, picked, register
from worker.runtime import Runtime


class Off(PickedPixels):
    """Towers that are off by so much."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        return lambda pixels: picked(tower, pixels) + np.float32(self.by)


@pytest.fixture
def stored(runtime: Runtime) -> int:
    """A live tower with twenty digits; the tower."""
    tower = register(runtime.transact)
    embed(batch_of(runtime.transact, *(item(f"key {seed}", seed) for seed in range(20))), runtime)
    return tower


def found(runtime: Runtime, part: str) -> list[tuple[str, str]]:
    with runtime.engine.connect() as connection:
        return [(each.level, each.found) for each in towers(connection, runtime.settings) if each.part == part]


def test_nothing_is_watched_without_a_tower(runtime: Runtime) -> None:
    look_after(runtime)
    assert found(runtime, "canary") == []


def test_vectors_that_are_computed_again_the_same_are_well(runtime: Runtime, stored: int) -> None:
    look_after(runtime)
    ((level, said),) = found(runtime, "canary")
    assert level == OK
    assert "differ by 0 at most" in said


@pytest.mark.parametrize("by", [0.001, np.nan])
def test_vectors_that_are_computed_again_otherwise_raise_an_alarm(
    runtime: Runtime, stored: int, caplog: pytest.LogCaptureFixture, by: float
) -> None:
    runtime.towers = Off(by)
    look_after(runtime)
    ((level, _),) = found(runtime, "canary")
    assert level == PROBLEM
    assert [record.levelname for record in caplog.records if "computed again" in record.message] == ["ERROR"]
    runtime.towers = PickedPixels()
    look_after(runtime)
    assert [level for level, _ in found(runtime, "canary")] == [OK], "it is mended"


def test_new_digits_that_are_far_from_all_others_are_counted_by_collection(
    runtime: Runtime, stored: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    look_after(runtime)
    twins = [item(f"twin {seed}", seed) for seed in range(20)]
    strangers = [item(f"stranger {seed}", 1000 + seed) for seed in range(40)]
    for collection, items in (("near", twins), ("odd", strangers)):
        embed(batch_of(runtime.transact, *items, collection=collection), runtime)
    look_after(runtime)
    counts = {each.collection: (each.looked_at, each.far) for each in runtime.transact(watch.drift, days=1)}
    assert counts == {"default": (20, 20), "near": (20, 0), "odd": (40, 40)}
    look_after(runtime)
    assert len(runtime.transact(watch.drift, days=1)) == 3, "nothing is looked at twice"
    ((level, said),) = found(runtime, "drift")
    assert level == WARNING
    assert "'odd'" in said
