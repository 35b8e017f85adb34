"""The towers that a process holds in memory: the few that were used last, and no others."""

import gc
import hashlib
import weakref
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from db.tables import Tower
from tests.makers import Ledger, register
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK
from worker.tower_cache import KEPT, TowerCache


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's collector, which may come late."""
    gc.disable()
    yield
    gc.enable()


def registered(ledger: Ledger, seed: int) -> int:
    """A tower with weights of its own; its id."""
    tower = folded(build_network(NOTEBOOK, seed=seed))
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
