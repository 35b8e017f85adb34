"""A tower's file goes out and comes in: checked, measured, and a candidate like any other."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sqlalchemy import text

from cli.commands.register_file import register_file
from cli.commands.towers import save_file
from cli.connect import who
from cli.errors import CommandError
from db.vectors import towers
from tests.makers import Ledger, register, tower_statuses
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK
from worker.settings import Settings

SAMPLE = Path(__file__).parents[1] / "data" / "mnist-sample.npz"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, data=SAMPLE)


@pytest.fixture(scope="module")
def tower() -> Any:
    return folded(build_network(NOTEBOOK, seed=3))


def test_a_file_that_went_out_comes_in_as_a_candidate(
    settings: Settings, ledger: Ledger, tower: Any, tmp_path: Path
) -> None:
    live = register(ledger)
    given, kept = tmp_path / "tower.keras", tmp_path / "kept.keras"
    given.write_bytes(save(tower))
    found = register_file(settings, given)
    assert (found.fingerprint, found.status, found.new) == (fingerprint(tower), "candidate", True)
    assert tower_statuses(ledger) == {live: "live", found.id: "candidate"}
    assert 0.5 <= found.metrics["pair_accuracy"] <= 1
    assert found.metrics["calibration"] is not None
    standing = next(each for each in ledger(towers.all_of_them) if each.id == found.id)
    assert standing.lineage is not None
    assert (standing.lineage["data"], standing.lineage["started_by"]) == ("file", who())
    assert given.name in standing.lineage["source"]
    assert save_file(settings, found.fingerprint[:8], kept) == found.id
    assert kept.read_bytes() == given.read_bytes()
    again = register_file(settings, kept)
    assert (again.id, again.status, again.new) == (found.id, "candidate", False)


def test_the_first_tower_of_an_installation_is_live_at_once(settings: Settings, tower: Any, tmp_path: Path) -> None:
    (tmp_path / "tower.keras").write_bytes(save(tower))
    assert register_file(settings, tmp_path / "tower.keras").status == "live"


def with_weights(tower: Any, change: Any) -> bytes:
    changed = keras.models.clone_model(tower)
    changed.set_weights([change(weights) for weights in tower.get_weights()])
    return save(changed)


def test_what_is_no_tower_is_refused_and_nothing_registered(
    settings: Settings, ledger: Ledger, tower: Any, tmp_path: Path
) -> None:
    wide = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64)])
    coded = keras.Sequential([keras.Input((784,)), keras.layers.Lambda(lambda pixels: pixels[:, :128])])
    files = {
        "text": (b"no tower", "not a `.keras` file"),
        "wide": (save(wide), "784 pixels to 128 numbers"),
        "coded": (save(coded), "plain layers"),
        "nan": (with_weights(tower, lambda weights: weights * np.nan), "NaN"),
        "zero": (with_weights(tower, np.zeros_like), "the same vector"),
    }
    for name, (content, said) in files.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        with pytest.raises(CommandError, match=said) as refusal:
            register_file(settings, path)
        assert str(path) in str(refusal.value)
    with pytest.raises(CommandError, match="No such file"):
        register_file(settings, tmp_path / "nothing.keras")
    with pytest.raises(CommandError, match="no digits to measure it on"):
        register_file(settings.model_copy(update={"data": tmp_path / "nothing.npz"}), tmp_path / "text.keras")
    assert tower_statuses(ledger) == {}


def test_a_file_that_is_gone_or_damaged_is_not_saved(settings: Settings, ledger: Ledger, tmp_path: Path) -> None:
    id = register(ledger)
    with pytest.raises(CommandError, match="cannot write"):
        save_file(settings, str(id), tmp_path / "no" / "folder")
    ledger(lambda session: session.execute(text("UPDATE towers SET file = 'damaged'")))
    with pytest.raises(CommandError, match="damaged"):
        save_file(settings, str(id), tmp_path / "tower.keras")
    ledger(lambda session: session.execute(text("UPDATE towers SET file = NULL")))
    with pytest.raises(CommandError, match="pruned"):
        save_file(settings, str(id), tmp_path / "tower.keras")
    assert not list(tmp_path.iterdir())
