"""A tower is taken from the ledger only as it was registered, whatever was written there since."""

import hashlib
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from db.tables import Tower
from tests.makers import Ledger, register
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK
from worker.runtime import Runtime
from worker.tower_cache import TRUSTED, TowerCache, TowerCorrupt


@pytest.fixture(scope="module")
def tower() -> Any:
    return folded(build_network(NOTEBOOK, seed=0))


def store(ledger: Ledger, id: int, **columns: Any) -> None:
    ledger(lambda session: session.execute(update(Tower).where(Tower.id == id).values(**columns)))


def test_another_file_is_not_even_opened(ledger: Ledger, runtime: Runtime) -> None:
    id = register(ledger)
    store(ledger, id, file=b"what would run code if it were opened")
    with pytest.raises(TowerCorrupt, match="digest"):
        TowerCache(runtime.transact)[id]


def test_other_weights_are_refused_although_their_digest_was_replaced_as_well(
    ledger: Ledger, runtime: Runtime, tower: Any
) -> None:
    id, file = register(ledger), save(tower)
    store(ledger, id, file=file, file_digest=hashlib.sha256(file).digest())
    with pytest.raises(TowerCorrupt, match="fingerprint"):
        TowerCache(runtime.transact)[id]


def test_what_was_registered_is_loaded(ledger: Ledger, runtime: Runtime, tower: Any) -> None:
    id, file = register(ledger), save(tower)
    store(ledger, id, file=file, file_digest=hashlib.sha256(file).digest(), fingerprint=fingerprint(tower))
    assert TowerCache(runtime.transact)[id] is not None


def test_an_id_that_names_another_tower_after_a_backup_was_restored_is_not_taken_for_the_former_one(
    ledger: Ledger, runtime: Runtime, tower: Any
) -> None:
    now, id, glyph = 0.0, register(ledger), np.full((1, 28, 28), 99, np.uint8)
    loaded = TowerCache(runtime.transact, lambda: now)
    vectors = []
    for each in (tower, folded(build_network(NOTEBOOK, seed=1))):
        file = save(each)
        store(ledger, id, file=file, file_digest=hashlib.sha256(file).digest(), fingerprint=fingerprint(each))
        now += 2 * TRUSTED
        vectors.append(loaded[id](glyph))
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    assert loaded[id] is loaded[id]
