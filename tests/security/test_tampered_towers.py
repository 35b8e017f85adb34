"""A tower is taken from the ledger only as it was registered, whatever was written there since."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import update

from db.tables import Tower
from tests.makers import Ledger, register
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK
from worker.runtime import Runtime
from worker.tower_cache import TowerCache, TowerCorrupt


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
