"""Labelled glyphs of any kind, from a name or a path, checked to be fit for training.

It must not know Keras: only a name that has to be downloaded imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.arrays import AnyArray, Uint8
from training.data import mnist
from training.data.arrays import is_array_file, looks_transposed, read_sets
from training.data.dataset import Dataset
from training.data.folders import files_under
from training.data.idx import has_idx, is_idx, read_idx
from training.errors import DataError, PictureError
from training.pictures.read import read_picture

NAMES = ("mnist", "fashion-mnist", "kuzushiji-mnist")
MAX_CLASSES = 256  # labels are bytes
TEST_SHARE = 6  # one in so many is held out of data that come without a split
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SPLITS = {"train": ("train", "training"), "test": ("test", "validation", "val")}  # names of folders
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_configured(
    source: str | Path | None, mnist_path: str | Path | None, *, transposed: bool | None = None
) -> Dataset:
    """What a worker trains on, by its settings: `source` as `load` takes it, or MNIST if it is None. Raises DataError.

    mnist_path: where MNIST lies, if not where `mnist.load` looks. transposed: as `load` has it.
    """
    return mnist.load(mnist_path) if source is None else load(source, transposed=transposed)


def load(source: str | Path, *, transposed: bool | None = None) -> Dataset:
    """Glyphs to train on: one of NAMES, a file of arrays, the folder of four IDX files, or a folder of class folders.

    `.npz`, `.npy` and CSV, as `training.data.arrays` reads them: a training and a test set; or one, of which one in six
    of every class is held out. Images are (n, 28, 28) of bytes, bool, or floats in 0..1; labels are numbers or words.
    transposed: whether rows and columns of arrays are exchanged; None refuses what looks as if they should be.
    Class folders: as Keras reads them, a folder of pictures a class, the classes in alphabetic order; two such trees
    in `train` and `test`, or one, which is split in the same way.
    Raises DataError, which says what is wrong and what would be right.
    """
    name = str(source)
    if name in NAMES:
        data = mnist.load() if name == "mnist" else mnist.download(name)
    else:
        data = read(Path(source).expanduser(), transposed=transposed)
    return checked(data)


def read(path: Path, *, transposed: bool | None = None) -> Dataset:
    """The glyphs at a path, by what is there. Raises DataError."""
    if not path.exists():
        raise DataError(f"There is nothing at {path}. Give a path, or one of {', '.join(NAMES)}.")
    try:
        if path.is_file() and is_array_file(path) and not is_idx(path):
            return read_arrays(path, transposed=transposed)
        folder = path.parent if path.is_file() else path
        if path.is_file() or has_idx(folder):
            return _upright(read_idx(folder, like=path if path.is_file() else None), transposed)
        return read_folders(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _upright(data: Dataset, transposed: bool | None) -> Dataset:
    """IDX files' glyphs, turned where that is asked for. Raises DataError where they look as if it should be."""
    if transposed:
        turned: dict[str, Any] = {
            name: np.ascontiguousarray(getattr(data, name).swapaxes(1, 2)) for name in ARRAYS[::2]
        }
        return replace(data, **turned)
    if transposed is None and looks_transposed(data.train_images[:4096], name=_names(Path(data.source))):
        _refuse_transposed([f"the digits in {data.source} look transposed, as they are in EMNIST's files"])
    return data


def _names(folder: Path) -> str:
    return " ".join(sorted(file.name for file in folder.glob("*ubyte*")))


def checked(data: Dataset) -> Dataset:
    """The same glyphs, if they are fit for training: at least two classes, each with training and test images.

    Raises DataError.
    """
    train, counts = np.unique(data.train_labels, return_counts=True)
    test = np.unique(data.test_labels)
    if len(train) < 2:
        raise DataError(f"{data.source} has one class only. Pairs of different glyphs need at least two classes.")
    for label, count in zip(train.tolist(), counts.tolist(), strict=True):
        if count < 2:
            raise DataError(f"{data.source} has one training image of class {label}. Pairs of the same need two.")
    for missing, split in ((np.setdiff1d(test, train), "training"), (np.setdiff1d(train, test), "test")):
        if len(missing):
            raise DataError(f"{data.source} has no {split} images of class {missing[0]}. Add some, or drop the class.")
    return data


def read_arrays(path: Path, *, transposed: bool | None = None) -> Dataset:
    """Glyphs of a file of arrays, with a split or without one. Raises DataError."""
    complaints: list[str] = []
    arrays: dict[str, tuple[AnyArray, AnyArray]] = {}
    for each in read_sets(path, transposed=bool(transposed), say=complaints.append):
        parts = [(images_of(images, _what(each.name)), labels) for images, labels in each.blocks()]
        if any(labels is None for _, labels in parts):
            raise DataError(
                f"{path} has no labels for {_what(each.name)}: {'; '.join(complaints) or 'name them labels'}."
            )
        labels = np.concatenate([labels for _, labels in parts if labels is not None])
        arrays[each.name] = (np.concatenate([images for images, _ in parts]), labels)
    if transposed is None:
        _refuse_transposed(complaints)
    train, test = arrays.get("train"), arrays.get("test", arrays.get("val"))
    if train is not None and test is not None:
        return _labelled(dict(zip(ARRAYS, (*train, *test), strict=True)), str(path))
    if len(arrays) != 1:
        held = ", ".join(name or "one without a name" for name in arrays) or "no pictures"
        raise DataError(f"{path} holds the sets {held}; train and test, or one that is split, are needed.")
    ((images, labels),) = arrays.values()
    return split(images, labels, str(path))


def _what(split: str) -> str:
    known = {"train": "the training images", "test": "the test images", "val": "the test images"}
    return known.get(split, "the images")


def _refuse_transposed(complaints: Sequence[str]) -> None:
    told = next((each for each in complaints if "transposed" in each), None)
    if told is not None:
        raise DataError(f"{told[:1].upper()}{told[1:]}: set TWINVEC_DATA_TRANSPOSED=1, or 0 where they are right.")


def read_folders(path: Path) -> Dataset:
    """Glyphs of a folder of class folders, or of two in `train` and `test`. Raises DataError."""
    trees = {split: _tree(path, names) for split, names in SPLITS.items()}
    if trees["train"] is not None and trees["test"] is not None:
        train_images, train_labels = _read_tree(trees["train"])
        test_images, test_labels = _read_tree(trees["test"])
        arrays = (train_images, train_labels, test_images, test_labels)
        return _labelled(dict(zip(ARRAYS, arrays, strict=True)), str(path))
    return split(*_read_tree(path), str(path))


def images_of(images: AnyArray, name: str) -> Uint8:
    """(n, 28, 28) or (n, 28, 28, 1) of integers in 0..255, bool or floats in 0..1 -> (n, 28, 28) uint8.

    Integers that are all 0 or 1 are black and white.

    Raises DataError.
    """
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{name} has the shape {images.shape}; (n, 28, 28) is needed, one glyph a row.")
    if images.dtype == np.uint8 and images.max(initial=0) != 1:
        return images
    if images.dtype.kind not in "biuf":
        raise DataError(f"{name} has the dtype {images.dtype}; bytes, or floats in 0..1, are needed.")
    if not np.isfinite(images).all():
        raise DataError(f"{name} holds NaN or infinity. Clean it first.")
    binary = images.dtype.kind in "biu" and images.size and images.min() == 0 and images.max() == 1
    highest = 255 if images.dtype.kind in "iu" and not binary else 1
    if images.size and (images.min() < 0 or images.max() > highest):
        raise DataError(
            f"{name} holds {images.dtype} from {images.min():.3g} to {images.max():.3g}; it must lie in 0..{highest}."
        )
    return np.round(images.astype(np.float32) * (255 / highest)).astype(np.uint8)


def _labelled(arrays: Mapping[str, AnyArray], source: str) -> Dataset:
    """A data set of the four ARRAYS; their labels, numbers or words, become bytes."""
    train, test = np.asarray(arrays["train_labels"]), np.asarray(arrays["test_labels"])
    codes = _codes(np.concatenate([train.ravel(), test.ravel()]))
    return Dataset(
        train_images=images_of(arrays["train_images"], "the training images"),
        train_labels=codes[: train.size],
        test_images=images_of(arrays["test_images"], "the test images"),
        test_labels=codes[train.size :],
        source=source,
    )


def _codes(labels: AnyArray) -> Uint8:
    """(n,) numbers or words -> (n,) uint8: themselves if they fit, else their position in sorted order."""
    if labels.dtype.kind not in "biuUf" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise DataError(f"The labels have the dtype {labels.dtype}; finite numbers or words are needed.")
    if labels.dtype.kind in "iu" and len(labels) and labels.min() >= 0 and labels.max() < MAX_CLASSES:
        return labels.astype(np.uint8)
    classes, places = np.unique(labels, return_inverse=True)
    if len(classes) > MAX_CLASSES:
        raise DataError(f"There are {len(classes):,} classes; at most {MAX_CLASSES} are taken.")
    return places.astype(np.uint8)


def split(images: Uint8, labels: AnyArray, source: str) -> Dataset:
    """A data set split class by class, the same way each time: one in TEST_SHARE, at least one, is for the test."""
    if labels.size != len(images):
        raise DataError(f"{source} has {len(images):,} images and {labels.size:,} labels; each image needs its label.")
    codes = _codes(labels.ravel())
    held_out = np.zeros(len(codes), np.bool_)
    rng = np.random.default_rng(0)
    for label in np.unique(codes):
        places = np.flatnonzero(codes == label)
        held_out[rng.permutation(places)[: max(1, len(places) // TEST_SHARE)]] = True
    return Dataset(
        train_images=images[~held_out],
        train_labels=codes[~held_out],
        test_images=images[held_out],
        test_labels=codes[held_out],
        source=source,
    )


def _tree(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def _read_tree(path: Path) -> tuple[Uint8, AnyArray]:
    """(n, 28, 28) uint8 and (n,) words: the names of the class folders. Raises DataError."""
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not classes:
        raise DataError(f"{path} holds no class folders. Make one a class, with its pictures in it.")
    images, labels = [], []
    for folder in classes:
        files = [file for file in files_under(folder) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise DataError(f"The class folder {folder} holds no picture. Add some, or remove it.")
        images += [_picture(file) for file in files]
        labels += [folder.name] * len(files)
    return np.stack(images), np.array(labels)


def _picture(file: Path) -> Uint8:
    try:
        return read_picture(file.read_bytes())
    except (OSError, PictureError) as error:
        raise DataError(f"{file} cannot be learnt from: {error} Repair it or remove it.") from error
