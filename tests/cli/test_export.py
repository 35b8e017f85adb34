"""Stored vectors in files, as other programs read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from cli.commands.export import write
from cli.errors import CommandError
from cli.outputs.vectors import check, writing
from db.engine import transact_once
from db.errors import NoTower
from db.vectors.export import Extent
from tests.cli.conftest import Twinvec
from tests.makers import Ledger, embed, item, register, send, trained, vector

ODD = 'it\'s 50% \\ "ü"\n%s'  # a collection, and the beginning of a key
FINGERPRINT = trained("first").fingerprint


@pytest.fixture
def towers(ledger: Ledger) -> tuple[int, int]:
    """Live and candidate; three digits in `one`, two in ODD of which one has no label; one is not embedded."""
    live, candidate = register(ledger), register(ledger, "newer")
    embed(ledger, send(ledger, *(item(f"k{seed}", seed, seed) for seed in range(3)), collection="one"))
    embed(ledger, send(ledger, item(ODD + "long", 3, 2**31 - 1), item("none", 4), collection=ODD))
    send(ledger, item("due", 5, 5), collection="one")
    return live, candidate


def read(file: Path) -> dict[str, Any]:
    """What a file holds, each format as its users read it."""
    match file.suffix:
        case ".parquet":
            from pyarrow import parquet  # noqa: PLC0415  # it takes half a second

            table = parquet.read_table(file)
            labels = [-1 if label is None else label for label in table["label"].to_pylist()]
            return {
                "keys": table["key"].to_pylist(),
                "collections": table["collection"].to_pylist(),
                "labels": labels,
                "vectors": np.array(table["vector"].to_pylist(), "<f4"),
                "tower": table.schema.metadata[b"tower"].decode(),
            }
        case ".npz":
            found: Any = np.load(file)
        case _:
            found = {**np.load(file.with_suffix(".keys.npz")), "vectors": np.load(file, mmap_mode="r")}
    shown = {name: found[name].tolist() for name in ("keys", "collections", "labels")}
    return {**shown, "vectors": found["vectors"], "tower": str(found["tower"])}


@pytest.mark.parametrize("suffix", ["parquet", "npz", "npy"])
def test_every_vector_is_written_with_its_key(
    engine: Engine, towers: tuple[int, int], tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.vectors.export.PAGE", 2)
    file = tmp_path / f"digits.v1.{suffix}"
    done = transact_once(engine, write, file, None, None, progress=False)
    assert done == {"file": file, "tower": FINGERPRINT, "vectors": 5}
    found = read(file)
    assert found["keys"] == ["k0", "k1", "k2", ODD + "long", "none"]
    assert found["collections"] == ["one"] * 3 + [ODD] * 2
    assert found["labels"] == [0, 1, 2, 2**31 - 1, -1]
    assert found["tower"] == FINGERPRINT
    assert (found["vectors"].shape, found["vectors"].dtype) == ((5, 128), np.dtype("<f4"))
    assert (found["vectors"] == np.stack([vector(towers[0], seed) for seed in range(5)])).all()
    names = {f"digits.v1.{suffix}"} | ({"digits.v1.keys.npz"} if suffix == "npy" else set())
    assert {each.name for each in tmp_path.iterdir()} == names


@pytest.mark.parametrize("suffix", ["parquet", "npz", "npy"])
@pytest.mark.parametrize(("collection", "count"), [(ODD, 2), ("nothing is here", 0)])
def test_a_collection_is_written_alone(
    engine: Engine, towers: tuple[int, int], tmp_path: Path, suffix: str, collection: str, count: int
) -> None:
    file = tmp_path / f"some.{suffix}"
    transact_once(engine, write, file, collection, None, progress=False)
    found = read(file)
    assert (len(found["keys"]), set(found["collections"])) == (count, {collection} if count else set())


def test_another_tower_is_named_by_id_or_fingerprint(engine: Engine, towers: tuple[int, int], tmp_path: Path) -> None:
    for named in (str(towers[1]), trained("newer").fingerprint[:9].upper()):
        done = transact_once(engine, write, tmp_path / "v.npz", None, named, progress=False)
        assert done["tower"] == trained("newer").fingerprint
        assert (read(tmp_path / "v.npz")["vectors"][1] == vector(towers[1], 1)).all()
    for named, why in (("77", "no tower"), ("", "2 towers")):
        with pytest.raises(NoTower, match=why):
            transact_once(engine, write, tmp_path / "v.npz", None, named, progress=False)


def test_all_pages_are_of_one_moment(
    engine: Engine, ledger: Ledger, towers: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digit that is stored between the count and the pages is in none of them."""
    count: Callable[..., Extent] = write.__globals__["exporting"].extent

    def and_one_more(*given: Any) -> Extent:
        found = count(*given)
        embed(ledger, send(ledger, item("late", 9), collection="one"))
        return found

    monkeypatch.setattr("cli.commands.export.exporting.extent", and_one_more)
    transact_once(engine, write, tmp_path / "v.parquet", None, None, progress=False)
    assert read(tmp_path / "v.parquet")["keys"] == ["k0", "k1", "k2", ODD + "long", "none"]


def test_what_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "v.npz", FINGERPRINT, Extent(1, 1, 1)):
        raise ZeroDivisionError
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("v.npz", b"before")]


@pytest.mark.parametrize(("name", "why"), [("v.csv", "ends in .parquet"), ("nowhere/v.npz", "no such folder")])
def test_what_cannot_be_written_is_said_first(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        check(tmp_path / name)


def test_the_command_writes_and_says_so(
    twinvec: Twinvec, database_url: str, towers: tuple[int, int], tmp_path: Path
) -> None:
    done = twinvec("export", str(tmp_path / "v.npy"), "--json", TWINVEC_DATABASE_URL=database_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"vectors": 5' in done.stdout
    refused = twinvec("export", str(tmp_path / "v.npy"))
    assert refused.returncode == 1
    assert "TWINVEC_DATABASE_URL" in refused.stderr
