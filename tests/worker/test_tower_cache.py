"""The towers that a process holds in memory: the few that were used last, and no others."""

import gc
import hashlib
import weakref
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
from sqlalchemy import update

from db.tables import Tower
from db.vectors.towers import fingerprint_of
from tests.makers import Ledger, eventually, register
from training.model.dense import DenseTower
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK, RECIPES, Recipe
from worker import tower_cache
from worker.tower_cache import KEPT, TowerCache


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's collector, which may come late."""
    gc.disable()
    yield
    gc.enable()


def registered(ledger: Ledger, seed: int, recipe: Recipe = NOTEBOOK) -> int:
    """A tower with weights of its own; its id."""
    tower = folded(build_network(recipe, seed=seed))
    id, file = register(ledger, f"{seed}"), save(tower)
    columns = {"file": file, "file_digest": hashlib.sha256(file).digest(), "fingerprint": fingerprint(tower)}
    ledger(lambda session: session.execute(update(Tower).where(Tower.id == id).values(**columns)))
    return id


def test_towers_that_were_put_out_are_freed(ledger: Ledger, no_collector: None) -> None:
    towers = TowerCache(ledger)
    loaded = [weakref.ref(towers[registered(ledger, seed)]) for seed in range(KEPT + 2)]
    held = [each() is not None for each in loaded]
    assert held[-KEPT:] == [True] * KEPT
    assert sum(held) <= KEPT + 1  # the last to be put out goes with the next load


def test_a_tower_is_loaded_ahead_once(ledger: Ledger) -> None:
    towers, loads = TowerCache(ledger), list[int]()
    tower = registered(ledger, 0)
    load = towers._load

    def counted(id: int, expected: str) -> Any:
        loads.append(id)
        return load(id, expected)

    towers._loaded = lru_cache(maxsize=KEPT)(counted)
    for _ in range(3):
        towers.prepare(tower)
    eventually(lambda: towers._loaded.cache_info().currsize == 1, "it is loaded")
    towers[tower]
    assert loads == [tower]


def test_what_the_ledger_has_just_said_is_not_asked_again(ledger: Ledger) -> None:
    tower, asked, now = registered(ledger, 0), list[Any](), 0.0

    def transact(work: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(work)
        return ledger(work, *args, **kwargs)

    towers = TowerCache(transact, clock=lambda: now)
    first, found = towers[tower], ledger(fingerprint_of, tower)
    now += 10
    asked.clear()
    assert towers.known_as(tower, found) is first
    assert asked == []
    assert towers[tower] is first
    assert asked == [fingerprint_of]


def test_a_tower_that_cannot_be_loaded_ahead_costs_nobody_anything(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr(tower_cache.log, "warning", lambda sentence, *_: said.append(sentence))
    TowerCache(ledger).prepare(register(ledger))  # its file is none
    eventually(lambda: said == ["could not load tower %d ahead: %s"], "it is logged")


def test_numpy_computes_what_is_dense_and_keras_the_rest(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    dense, convolutional = registered(ledger, 0), registered(ledger, 1, RECIPES["conv"])
    monkeypatch.setattr(tower_cache, "may_have_gpu", lambda: False)
    towers = TowerCache(ledger)
    assert isinstance(towers[dense], DenseTower)
    assert isinstance(towers[convolutional], Embedder)


def test_where_thousands_are_embedded_keras_computes_all(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_cache, "may_have_gpu", lambda: False)
    assert isinstance(TowerCache(ledger, in_bulk=True)[registered(ledger, 0)], Embedder)


def test_where_there_is_a_gpu_keras_computes_all(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_cache, "may_have_gpu", lambda: True)
    assert isinstance(TowerCache(ledger)[registered(ledger, 0)], Embedder)
