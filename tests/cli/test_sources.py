"""Paths -> keys with their pictures."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.errors import CommandError
from cli.inputs.sources import pictures

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 2, 1], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the format of MNIST's files."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


def test_a_folder_gives_every_file_once_in_a_stable_order_and_no_hidden_one(tmp_path: Path) -> None:
    for name in ("b.png", "a.txt", ".hidden", "deeper/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    keys = [key for key, _digit in pictures([tmp_path])]
    assert keys == [f"{tmp_path}/{name}" for name in ("a.txt", "b.png", "deeper/c.png")]


def test_keys_are_paths_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "x.png").touch()
    monkeypatch.chdir(tmp_path)
    assert [key for key, _digit in pictures([Path("7")])] == ["7/x.png"]


def test_a_folder_named_as_a_number_is_the_label(tmp_path: Path) -> None:
    for name in ("7/x.png", "other/y.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    labels = {Path(key).name: digit.label for key, digit in pictures([tmp_path], label_from_folder=True)}
    assert labels == {"x.png": 7, "y.png": None}


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_test", "y_test")])
def test_arrays_come_with_their_labels_in_order(tmp_path: Path, names: tuple[str, str]) -> None:
    file = tmp_path / "digits.npz"
    arrays: dict[str, Any] = dict(zip(names, (IMAGES, LABELS), strict=True))
    np.savez(file, **arrays)
    found = list(pictures([file]))
    assert [key for key, _digit in found] == [f"{file}#{index}" for index in range(3)]
    assert [digit.label for _key, digit in found] == [7, 2, 1]
    assert all((digit.picture == image).all() for (_key, digit), image in zip(found, IMAGES, strict=True))


def test_several_sets_in_one_file_do_not_share_keys(tmp_path: Path) -> None:
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS)
    keys = [key for key, _digit in pictures([file])]
    assert len(set(keys)) == 6
    assert {f"{file}#train/0", f"{file}#test/2"} <= set(keys)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_find_their_labels(tmp_path: Path, packed: bool) -> None:
    for name, array in (("t10k-images-idx3-ubyte", IMAGES), ("t10k-labels-idx1-ubyte", LABELS)):
        content = gzip.compress(idx(array)) if packed else idx(array)
        (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(content)
    assert [digit.label for _key, digit in pictures([tmp_path])] == [7, 2, 1]


def test_a_path_that_is_not_there_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    with pytest.raises(CommandError, match="no such file"):
        pictures([tmp_path / "there.png", tmp_path / "missing.png"])


def test_an_archive_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", weights=np.zeros(3))
    with pytest.raises(CommandError, match="holds weights"):
        list(pictures([tmp_path / "odd.npz"]))


def test_an_archive_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=np.array([{}], dtype=object))
    with pytest.raises(CommandError, match="not an array file"):
        list(pictures([tmp_path / "bad.npz"]))


def test_labels_that_do_not_match_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", images=IMAGES, labels=LABELS[:2])
    with pytest.raises(CommandError, match="3 pictures and 2 labels"):
        list(pictures([tmp_path / "odd.npz"]))
