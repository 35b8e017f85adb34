"""Labelled glyphs are read from every kind of source, and data that cannot be learnt from are refused with a reason."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data import files
from training.data.dataset import Dataset
from training.errors import DataError

Array = NDArray[Any]


@pytest.fixture
def arrays(sample: Dataset) -> dict[str, Array]:
    """A few digits of each class, under Keras's names."""
    return {
        "x_train": sample.train_images[:100],
        "y_train": sample.train_labels[:100],
        "x_test": sample.test_images[:100],
        "y_test": sample.test_labels[:100],
    }


def archive(path: Path, **arrays: Array) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


def write_idx(path: Path, array: Array) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()) if path.suffix == ".gz" else header + array.tobytes())


def write_tree(folder: Path, images: Array, labels: Array, name: Callable[[int], str] = str) -> None:
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / name(int(label))).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name(int(label)) / f"{place:03}.png")


def test_an_archive_with_a_split_is_taken_as_it_is(arrays: dict[str, Array], tmp_path: Path) -> None:
    data = files.load(archive(tmp_path / "glyphs.npz", **arrays))
    np.testing.assert_array_equal(data.train_images, arrays["x_train"])
    np.testing.assert_array_equal(data.test_labels, arrays["y_test"])


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_train", "y_train")])
def test_an_archive_without_a_split_is_split_class_by_class(
    names: tuple[str, str], sample: Dataset, tmp_path: Path
) -> None:
    arrays = dict(zip(names, (sample.train_images, sample.train_labels), strict=True))
    data = files.load(archive(tmp_path / "glyphs.npz", **arrays))
    assert len(data.train_images) + len(data.test_images) == len(sample.train_images)
    for label in range(10):
        total = np.sum(sample.train_labels == label)
        assert np.sum(data.test_labels == label) == total // 6
    again = files.load(tmp_path / "glyphs.npz")
    assert again.digest == data.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images / 255,
        lambda images: (images / 255).astype(np.float16),
        lambda images: images.astype(np.int64),
        lambda images: images[..., None],
        lambda images: images.reshape(-1, 784),
    ],
    ids=["floats", "halves", "integers", "a channel", "flat"],
)
def test_images_come_in_many_forms(change: Callable[[Array], Array], arrays: dict[str, Array], tmp_path: Path) -> None:
    changed = arrays | {name: change(arrays[name]) for name in ("x_train", "x_test")}
    data = files.load(archive(tmp_path / "glyphs.npz", **changed))
    np.testing.assert_array_equal(data.train_images, arrays["x_train"])


def test_words_are_labels_too(arrays: dict[str, Array], tmp_path: Path) -> None:
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    changed = arrays | {name: words[arrays[name]] for name in ("y_train", "y_test")}
    data = files.load(archive(tmp_path / "glyphs.npz", **changed))
    same = arrays["y_train"][:, None] == arrays["y_test"]
    np.testing.assert_array_equal(data.train_labels[:, None] == data.test_labels, same)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_of_idx_files_is_read(suffix: str, arrays: dict[str, Array], tmp_path: Path) -> None:
    for beginning, name in (("train", "train"), ("t10k", "test")):
        write_idx(tmp_path / f"{beginning}-images-idx3-ubyte{suffix}", arrays[f"x_{name}"])
        write_idx(tmp_path / f"{beginning}-labels-idx1-ubyte{suffix}", arrays[f"y_{name}"])
    for source in (tmp_path, tmp_path / f"train-images-idx3-ubyte{suffix}"):
        data = files.load(source)
        np.testing.assert_array_equal(data.test_images, arrays["x_test"])


def test_a_folder_of_class_folders_is_read_and_split(arrays: dict[str, Array], tmp_path: Path) -> None:
    write_tree(tmp_path, arrays["x_train"], arrays["y_train"], name=lambda label: f"class {label}")
    data = files.load(tmp_path)
    assert len(data.train_images) + len(data.test_images) == 100
    assert np.unique(data.train_labels).tolist() == list(range(10))
    digits = {image.tobytes(): label for image, label in zip(arrays["x_train"], arrays["y_train"], strict=True)}
    known = [digits.get(image.tobytes()) for image in data.train_images]
    found = [label for label, known_as in zip(data.train_labels, known, strict=True) if known_as is not None]
    assert found == [label for label in known if label is not None]
    assert len(found) > 50  # the others were centred again, as any picture is


@pytest.mark.parametrize("test", ["test", "validation"])
def test_two_trees_are_a_split(test: str, arrays: dict[str, Array], tmp_path: Path) -> None:
    write_tree(tmp_path / "train", arrays["x_train"], arrays["y_train"])
    write_tree(tmp_path / test, arrays["x_test"], arrays["y_test"])
    data = files.load(tmp_path)
    assert (len(data.train_images), len(data.test_images)) == (100, 100)
    assert sorted(data.test_labels.tolist()) == sorted(arrays["y_test"].tolist())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"y_train": np.zeros(100, np.uint8), "y_test": np.zeros(100, np.uint8)}, "one class only"),
        ({"x_train": np.full((100, 28, 28), np.nan)}, "NaN"),
        ({"x_train": np.full((100, 28, 28), 1.5)}, r"must lie in 0\.\.1"),
        ({"x_train": np.full((100, 28, 28), -1)}, r"must lie in 0\.\.255"),
        ({"x_train": np.zeros((100, 32, 32), np.uint8)}, r"shape \(100, 32, 32\)"),
        ({"x_train": np.zeros((28, 28), np.uint8)}, "shape"),
        ({"x_train": np.array(["a"] * 784 * 100).reshape(100, 784)}, "dtype"),
        ({"x_train": np.zeros((99, 28, 28), np.uint8)}, "one for each image"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8), "y_train": np.zeros(0, np.uint8)}, "no training images"),
        ({"y_test": np.full(100, 11, np.uint8)}, "no training images of class 11"),
        ({"y_test": np.zeros(100, np.uint8)}, "no test images of class 1"),
        ({"y_train": np.arange(100, dtype=np.uint8)}, "one training image of class 0"),
        ({"y_train": np.arange(300), "x_train": np.zeros((300, 28, 28), np.uint8)}, "at most 256"),
        ({"y_train": np.full(100, np.nan)}, "finite numbers or words"),
    ],
)
def test_what_cannot_be_learnt_is_refused_with_the_reason(
    change: dict[str, Array], complaint: str, arrays: dict[str, Array], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=complaint):
        files.load(archive(tmp_path / "glyphs.npz", **(arrays | change)))


def test_an_archive_of_other_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds weights"):
        files.load(archive(tmp_path / "glyphs.npz", weights=np.zeros(3)))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(DataError, match="not a readable"):
        files.load(tmp_path / "broken.npz")


def test_folders_that_lack_something_are_refused(arrays: dict[str, Array], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folders"):
        files.load(tmp_path)
    write_tree(tmp_path, arrays["x_train"], arrays["y_train"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        files.load(tmp_path)
    (tmp_path / "empty" / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png cannot be learnt from"):
        files.load(tmp_path)


def test_a_path_that_leads_nowhere_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fashion-mnist"):
        files.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["fashion-mnist", "kuzushiji-mnist"])
def test_a_name_that_cannot_be_fetched_says_so(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import keras  # noqa: PLC0415  # only here

    def fail(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure: no route to host")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    monkeypatch.setattr("keras.src.datasets.fashion_mnist.get_file", fail)
    with pytest.raises(DataError, match=f"could not download {name}.*no route to host.*Give a path"):
        files.load(name)
