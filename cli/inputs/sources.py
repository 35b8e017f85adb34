"""Paths on the command line -> keys with their pictures, read one file at a time. It must not decode a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cli.errors import CommandError
from training.data.idx import read_idx_file
from twinvec_client import Digit

Item = tuple[str, Digit]

# (name of the set, its images, its labels) as array files call them
_NAMES = (
    ("", "images", "labels"),
    ("train", "x_train", "y_train"),
    ("test", "x_test", "y_test"),
    ("train", "train_images", "train_labels"),
    ("test", "test_images", "test_labels"),
    ("", "x", "y"),
)


def pictures(paths: Sequence[Path], *, label_from_folder: bool = False) -> Iterator[Item]:
    """Every picture under the paths: (key, picture with its label if it has one), in a stable order.

    A file that is not a picture is passed on all the same: it becomes a failure of the job, with its reason. Hidden
    files are left out. Raises CommandError at once for a path that does not exist, and on the way for an array
    file that cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise CommandError(f"{path}: no such file or folder")
    return _walk(paths, label_from_folder)


def _walk(paths: Sequence[Path], label_from_folder: bool) -> Iterator[Item]:
    for path in paths:
        for file in _files(path):
            if file.suffix == ".npz":
                yield from _arrays(file)
            elif _is_idx(file):
                yield from _idx(file)
            else:
                yield file.as_posix(), Digit(file, label=_folder_label(file) if label_from_folder else None)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for inside in sorted(path.iterdir()):
        if not inside.name.startswith("."):
            yield from _files(inside)


def _folder_label(file: Path) -> int | None:
    name = file.absolute().parent.name
    return int(name) if name.isascii() and name.isdecimal() else None


def _arrays(file: Path) -> Iterator[Item]:
    try:
        with np.load(file, allow_pickle=False) as held:
            arrays = dict(held)
    except (OSError, ValueError) as error:
        raise CommandError(f"{file}: not an array file: {error}") from error
    sets = [(name, images, labels) for name, images, labels in _NAMES if images in arrays]
    if not sets:
        stacks = [name for name, array in arrays.items() if array.ndim >= 3]
        if len(stacks) != 1:
            raise CommandError(
                f"{file} holds {', '.join(arrays) or 'nothing'}: name the pictures `images` and the labels `labels`"
            )
        sets = [("", stacks[0], "")]
    for name, images, labels in sets:
        start = f"{file.as_posix()}#{name}/" if len(sets) > 1 else f"{file.as_posix()}#"
        yield from _numbered(start, arrays[images], arrays.get(labels))


def _is_idx(file: Path) -> bool:
    """By name, as MNIST and its kin are called: `train-images-idx3-ubyte`, `t10k-labels.idx1-ubyte.gz`."""
    return "-ubyte" in file.name and "idx" in file.name


def _idx(images: Path) -> Iterator[Item]:
    """The pictures of one IDX file; a file of labels is read with the pictures it belongs to."""
    if "idx1" in images.name:
        return
    labels = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    known = read_idx_file(labels) if labels != images and labels.exists() else None
    yield from _numbered(f"{images.as_posix()}#", read_idx_file(images), known)


def _numbered(start: str, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any] | None) -> Iterator[Item]:
    if labels is not None and len(labels) != len(images):
        raise CommandError(f"{start}: {len(images):,} pictures and {len(labels):,} labels")
    for index, image in enumerate(images):
        yield f"{start}{index}", Digit(image, label=None if labels is None else int(labels[index]))
