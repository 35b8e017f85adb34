"""Files of arrays, of whatever program, as sets of pictures with their labels: `.npz`, `.npy`, CSV and IDX.

The one reader of what is embedded and of what is learnt from. It must not know what either wants of a picture.
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.arrays import AnyArray
from training.data.idx import is_idx, labels_beside, open_plain, read_idx_blocks
from training.errors import DataError

BLOCK = 4096  # pictures in memory at a time, where a file can be read so
_BLOCK_BYTES = 2**28  # of them, where they are large
_LARGEST = 2**31  # bytes of an archive's arrays, unpacked: they are read whole
_MOST_LABELS = 2**26  # of an IDX file
_BLOCK_CELLS = 2**22  # of a CSV: each is a string of some 50 bytes until it becomes a number
_LONGEST_LINE = 2**20  # bytes of a CSV
IMAGES = ("images", "image", "pictures", "picture", "glyphs", "digits", "x", "data", "pixels", "features")
LABELS = ("labels", "label", "y", "targets", "target", "classes", "class")
SPLITS = {
    "training": "train",
    "train": "train",
    "testing": "test",
    "test": "test",
    "t10k": "test",
    "validation": "val",
    "valid": "val",
    "val": "val",
}
CHANNELS = (1, 3, 4)
CSV_SUFFIXES = {".csv", ".tsv"}
_WIDE = 0.8  # the share of digits wider than tall from which on they look transposed; of MNIST's it is a tenth
_FEW = 8  # digits from which nothing is concluded


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures of one file that belong together.

    name: `train`, `test` or `val` where the file says so, else nothing. blocks: (k, h, w) or (k, h, w, channels) at a
    time. labels: (n,) int64, (n,) words, or None; those of a CSV come block by block with the pictures instead.
    single: whether the file is one picture and no set.
    """

    name: str
    blocks: Callable[[], Iterator[tuple[AnyArray, AnyArray | None]]]
    single: bool = False


def is_array_file(path: Path) -> bool:
    """By its name alone."""
    return path.suffix.lower() in (".npz", ".npy") or is_csv(path) or is_idx(path)


def is_csv(path: Path) -> bool:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower() in CSV_SUFFIXES


def read_sets(
    path: Path, *, transposed: bool = False, say: Callable[[str], None] = lambda line: None
) -> list[PictureSet]:
    """The sets of a file; none where it holds the labels of another. Raises DataError.

    transposed: rows and columns are exchanged, as EMNIST's files need it. say: is given a sentence about what is not
    read, and about what looks transposed.
    """
    if is_idx(path):
        sets = _of_idx(path)
    elif is_csv(path):
        sets = [PictureSet(name="", blocks=lambda: _csv_blocks(path))]
    elif path.suffix.lower() == ".npy":
        sets = _of_npy(path)
    else:
        sets = _of_npz(path, say)
    return [_turned(each, path, transposed, say) for each in sets]


def looks_transposed(images: AnyArray, *, name: str = "") -> bool:
    """Whether (k, h, w) digits are wider than tall, nearly all: handwritten ones are the other way.

    name: of their file; of EMNIST's own less is needed.
    """
    if images.ndim < 3 or images.shape[1] != images.shape[2] or not images.size:
        return False
    ink = images.reshape(*images.shape[:3], -1).max(axis=3) > images.max() / 4
    heights = _extents(ink.any(axis=2))
    widths = _extents(ink.any(axis=1))
    decided = int(np.sum(heights != widths))
    wide = int(np.sum(widths > heights))
    needed = 0.5 if "emnist" in name.lower() else _WIDE
    return decided >= _FEW and wide / decided > needed


def _extents(occupied: AnyArray) -> AnyArray:
    """(k, n) bool -> (k,): from the first that is occupied to the last."""
    reached = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1) - occupied.argmax(axis=1)
    return np.where(occupied.any(axis=1), reached, 0)


def _turned(given: PictureSet, path: Path, transposed: bool, say: Callable[[str], None]) -> PictureSet:
    def blocks() -> Iterator[tuple[AnyArray, AnyArray | None]]:
        for at, (images, labels) in enumerate(given.blocks()):
            if at == 0 and not transposed and looks_transposed(images, name=path.name):
                say(f"the digits in {path} look transposed, as they are in EMNIST's files")
            yield (images.swapaxes(1, 2) if transposed else images), labels

    return PictureSet(name=given.name, blocks=blocks, single=given.single)


def _of_npz(path: Path, say: Callable[[str], None]) -> list[PictureSet]:
    arrays = load_archive(path)
    named = {name: _role(name) for name in arrays}
    sets = []
    for split in sorted({split for role, split in named.values() if role == "images"}, key=_order):
        images = _first(named, "images", split, IMAGES) or ""
        labels = _first(named, "labels", split, LABELS)
        sets.append((split, images, labels))
    if not sets:
        stacks = [name for name, array in arrays.items() if array.ndim >= 3]
        if len(stacks) != 1:
            raise DataError(
                f"{path} holds {', '.join(arrays) or 'nothing'}: name the pictures `images` and the labels `labels`"
            )
        sets = [("", stacks[0], _first(named, "labels", "", LABELS))]
    unread = arrays.keys() - {name for _, *names in sets for name in names}
    for _, images, labels in sets:
        if labels is None:
            others = f": {', '.join(sorted(unread))} is none that is known" if unread else ""
            say(f"no labels were found for {images} in {path}{others}")
    return [
        _whole(split, arrays[images], None if labels is None else arrays[labels], f"{images} in {path}")
        for split, images, labels in sets
    ]


def load_archive(path: Path) -> dict[str, AnyArray]:
    """The arrays of an `.npz`; nothing pickled is read. Raises DataError."""
    try:
        if zipfile.is_zipfile(path):
            _bound(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise anything on an archive that is broken
        raise DataError(_unreadable(path, error)) from error


def _bound(path: Path) -> None:
    """Raises DataError where an archive holds more than is read at once. What is longer than it says is not read."""
    with zipfile.ZipFile(path) as packed:
        size = sum(entry.file_size for entry in packed.infolist())
    if size > _LARGEST:
        raise DataError(
            f"{path} holds {size:,} bytes, more than the {_LARGEST:,} that are read at once: make several files of it, "
            f"or an .npy, which is read in parts."
        )


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{path} cannot be read: {error.strerror}"
    reason = "it holds Python objects" if "allow_pickle" in str(error) else (str(error) or type(error).__name__)
    return f"{path} is not an array file, or not a readable one: {reason}. Fetch an intact copy."


def _role(name: str) -> tuple[str, str]:
    """What an array is by its name: (`images`, `labels` or nothing, split). `X_train`, `trainX`, `test_labels`."""
    word, split = re.sub(r"[^a-z0-9]", "", name.lower()), ""
    for spelt, meant in SPLITS.items():
        rest = word.removeprefix(spelt) if word.startswith(spelt) else word.removesuffix(spelt)
        if rest != word:
            word, split = rest, meant
            break
    return "images" if word in IMAGES else "labels" if word in LABELS else "", split


def _first(named: dict[str, tuple[str, str]], role: str, split: str, words: Iterable[str]) -> str | None:
    """The array of a role and split whose name stands first among `words`."""
    order = {word: place for place, word in enumerate(words)}
    found = [name for name, has in named.items() if has == (role, split)]
    bare = {name: re.sub("|".join(SPLITS), "", re.sub(r"[^a-z0-9]", "", name.lower())) for name in found}
    return min(found, key=lambda name: order.get(bare[name], len(order)), default=None)


def _order(split: str) -> int:
    return ["", "train", "val", "test"].index(split)


def _of_npy(path: Path) -> list[PictureSet]:
    role, split = _role(path.stem)
    if role == "labels" and any(_role(each.stem) == ("images", split) for each in path.parent.glob("*.npy")):
        return []
    array = _load_npy(path)
    beside = [
        each
        for each in sorted(path.parent.glob("*.npy"))
        if role == "images" and _role(each.stem) == ("labels", split) and each.is_file()
    ]
    labels = _load_npy(beside[0]) if beside else None
    return [_whole("", array, labels, str(path))]


def _load_npy(path: Path) -> AnyArray:
    try:
        array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # as of an archive
        raise DataError(_unreadable(path, error)) from error
    if not isinstance(array, np.ndarray):  # an archive under this name
        raise DataError(f"{path} is an archive of arrays: call it .npz")
    return array


def _whole(split: str, images: AnyArray, labels: AnyArray | None, where: str) -> PictureSet:
    stack, single = stack_of(images, where)
    if len(stack) and not stack.size:
        raise DataError(f"{where} has the shape {images.shape}: its pictures are empty.")
    each = stack.nbytes // max(1, len(stack))
    if each > _LARGEST:
        raise DataError(f"{where} holds pictures of {each:,} bytes, which are not read.")
    at_once = min(BLOCK, max(1, _BLOCK_BYTES // max(1, each)))
    known = None if labels is None else labels_of(labels, f"the labels of {where}")
    if single and known is not None and len(known) != 1:
        raise DataError(f"{where} has the shape {images.shape}; (n, 28, 28) is needed: one picture for each label.")
    if known is not None and len(known) != len(stack):
        raise DataError(f"{where}: {len(stack):,} pictures and {len(known):,} labels; one for each image is needed.")

    def blocks() -> Iterator[tuple[AnyArray, AnyArray | None]]:
        for start in range(0, max(1, len(stack)), at_once):
            part = slice(start, start + at_once)
            yield np.asarray(stack[part]), None if known is None else known[part]

    return PictureSet(name=split, blocks=blocks, single=single)


def stack_of(images: AnyArray, where: str) -> tuple[AnyArray, bool]:
    """(n, h, w) or (n, h, w, channels), and whether it is a single picture. Raises DataError.

    Rows of squares, such as (n, 784), and channels that come first are put in their place.
    """
    if images.dtype.kind not in "biuf":
        raise DataError(f"{where} has the dtype {images.dtype}; bytes, or floats in 0..1, are needed.")
    shape = images.shape
    if len(shape) == 4 and shape[1] in CHANNELS and shape[3] not in CHANNELS:
        return np.moveaxis(images, 1, 3), False
    if len(shape) == 4 or (len(shape) == 3 and (shape[2] not in CHANNELS or 0 in shape)):
        return images, False
    if len(shape) == 3:  # one picture with channels
        return images[None], True
    if len(shape) == 2 and _side(shape[1]) and shape[0] != shape[1]:
        return images.reshape(shape[0], _side(shape[1]), _side(shape[1])), False
    if len(shape) == 2:
        return images[None], True
    if len(shape) == 1 and _side(shape[0]):
        return images.reshape(1, _side(shape[0]), _side(shape[0])), True
    raise DataError(f"{where} has the shape {shape}; (n, 28, 28), or (n, 784), is needed: one picture a row.")


def _side(pixels: int) -> int:
    """The side of a square of so many pixels, from 8x8; else 0."""
    side = math.isqrt(max(0, pixels))
    return side if side >= 8 and side * side == pixels else 0


def labels_of(labels: AnyArray, what: str) -> AnyArray:
    """(n,) int64, or (n,) words, of labels as anyone writes them. Raises DataError.

    (n,) or (n, 1) of integers, bools, whole floats or words, which become numbers where all are; or one-hot:
    (n, classes) of 0 and 1, a single 1 in each row.
    """
    if labels.ndim > 1 and labels.size == labels.shape[0]:
        labels = labels.reshape(-1)
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise DataError(f"{what} have the shape {labels.shape} and are not one-hot; one label a picture is needed.")
        classes: AnyArray = labels.argmax(axis=1)
        return classes
    if labels.ndim != 1:
        raise DataError(f"{what} have the shape {labels.shape}; (n,), one label a picture, is needed.")
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64) if labels.dtype != np.uint64 else labels
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.round(labels)).any():
            raise DataError(f"{what} hold {_strange(labels)}; finite numbers or words are needed, and whole numbers.")
        return labels.astype(np.int64)
    if labels.dtype.kind in "US":
        words = np.char.strip(np.char.decode(labels, "utf-8", "replace") if labels.dtype.kind == "S" else labels)
        return words.astype(np.int64) if len(words) and np.char.isdecimal(words).all() else words
    raise DataError(f"{what} have the dtype {labels.dtype}; finite numbers or words are needed.")


def _strange(labels: AnyArray) -> Any:
    return next(each for each in labels.tolist() if not math.isfinite(each) or each != round(each))


def _of_idx(path: Path) -> list[PictureSet]:
    if labels_beside(path) == path:
        return []

    def blocks() -> Iterator[tuple[AnyArray, AnyArray | None]]:
        beside = labels_beside(path)
        known = None
        if beside is not None:
            known = labels_of(_idx_labels(beside), f"the labels in {beside}")
        start = 0
        for block in read_idx_blocks(path, BLOCK):
            if block.ndim == 2 and not _side(block.shape[1]):
                raise DataError(f"{path} holds rows of {block.shape[1]} values; pictures are needed.")
            stack = block if block.ndim > 2 else block.reshape(len(block), _side(block.shape[1]), -1)
            part = None if known is None else known[start : start + len(stack)]
            if part is not None and len(part) < len(stack):
                raise DataError(f"{path} has more pictures than there are labels: {len(known or ()):,}.")
            yield stack, part
            start += len(stack)
        if known is not None and start != len(known):
            raise DataError(f"{path}: {start:,} pictures and {len(known):,} labels; one for each image is needed.")

    return [PictureSet(name=_idx_split(path), blocks=blocks)]


def _idx_labels(path: Path) -> AnyArray:
    blocks, count = [], 0
    for block in read_idx_blocks(path, 2**20):
        count += block.size
        if count > _MOST_LABELS:
            raise DataError(f"{path} holds more than {_MOST_LABELS:,} labels, which are not read at once.")
        blocks.append(block)
    return np.concatenate(blocks)


def _idx_split(path: Path) -> str:
    words = re.split(r"[-_.]", path.name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _csv_blocks(path: Path) -> Iterator[tuple[AnyArray, AnyArray | None]]:
    """One picture a row: a column `label` or none, and the pixels of a square, row by row; with names above or without.

    Raises DataError.
    """
    try:
        with open_plain(path) as raw:
            yield from _csv_rows(path, _lines(path, raw))
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        reason = (
            "it is not text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        )
        raise DataError(f"{path} cannot be read: {reason}. Fetch an intact copy.") from error


def _lines(path: Path, raw: IO[bytes]) -> Iterator[str]:
    for at, line in enumerate(iter(partial(raw.readline, _LONGEST_LINE), b"")):
        if len(line) == _LONGEST_LINE:
            raise DataError(f"{path}: a line is longer than {_LONGEST_LINE:,} bytes, which is not read.")
        yield line.decode("utf-8-sig" if at == 0 else "utf-8")


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[tuple[AnyArray, AnyArray | None]]:
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    heading = next(csv.reader([first], delimiter=delimiter), [])
    named = not all(_is_number(word) for word in heading)
    at = _label_column(path, [word.strip().lower() for word in heading], named)
    rows = csv.reader(lines if named else _again(first, lines), delimiter=delimiter)
    row, pixels = 1 if named else 0, len(heading) - (at is not None)
    at_once = min(BLOCK, max(1, _BLOCK_CELLS // len(heading)))
    while block := [each for each in islice(rows, at_once) if each]:
        labels = None if at is None else [each.pop(at) for each in block if len(each) > at]
        try:
            values = np.array(block, dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{path}: a row from {row + 1:,} on is not one picture like the first: {error}.") from error
        whole = values.max(initial=0) > 1 and (values == np.round(values)).all()
        if whole and values.min(initial=0) >= 0 and values.max(initial=0) <= 255:
            values = values.astype(np.uint8)
        if values.shape[1] != pixels:
            raise DataError(
                f"{path}: row {row + 1:,} is not one picture like the first: it has {values.shape[1]} values."
            )
        side = _side(pixels)
        yield (
            values.reshape(len(values), side, side),
            None if labels is None else labels_of(np.array(labels), f"the labels in {path}"),
        )
        row += len(block)


def _label_column(path: Path, heading: list[str], named: bool) -> int | None:
    """Where the labels stand; None where there are none. Raises DataError."""
    if named:
        at = next((place for place, word in enumerate(heading) if word in LABELS), None)
    else:
        at = 0 if _side(len(heading) - 1) else None
    pixels = len(heading) - (at is not None)
    if not _side(pixels):
        raise DataError(
            f"{path} has {len(heading)} columns; 784 pixels are needed, and a column called `label` where there are "
            f"labels."
        )
    return at


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _again(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines
