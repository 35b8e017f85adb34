"""IDX files, the format in which MNIST was published, of any size. It must not know what their arrays mean."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.arrays import AnyArray, Uint8
from training.data.dataset import Dataset
from training.errors import DataError

PARTS = {  # ours -> what the file's name begins with, or has after the name of its set as in emnist-digits-train-images
    "train_images": "train-images",
    "train_labels": "train-labels",
    "test_images": "(?:t10k|test)-images",
    "test_labels": "(?:t10k|test)-labels",
}
_TYPES = {8: "u1", 9: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # of one value, by the header's byte
_MOST_AXES = 4
_LARGEST = 2**31  # bytes of what is read as a whole, as data to learn from are


def is_idx(path: Path) -> bool:
    """By name, as MNIST and its kin are called: `train-images-idx3-ubyte`, `t10k-labels.idx1-ubyte.gz`."""
    return "-ubyte" in path.name and "idx" in path.name


def labels_beside(path: Path) -> Path | None:
    """The file of the labels of a file of images, packed or not; itself where it holds labels; None without one."""
    if "idx1" in path.name:
        return path
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    for each in (name, f"{name}.gz", name.removesuffix(".gz")):
        if each != path.name and (beside := path.with_name(each)).is_file():
            return beside
    return None


def read_idx(folder: Path, *, like: Path | None = None) -> Dataset:
    """The four IDX files of a folder, each gzipped or not, under any of their usual names. Raises DataError.

    like: one of them, where the folder holds several sets, as EMNIST's does.
    """
    arrays: dict[str, Any] = {}
    wanted = None if like is None else _set_of(like)
    for name, part in PARTS.items():
        files = sorted(file for file in folder.iterdir() if re.match(rf"(.*-)?{part}", file.name))
        if wanted is not None:
            files = [file for file in files if _set_of(file) == wanted]
        if not files:
            lacking = part.replace("(?:t10k|test)", "t10k")
            raise DataError(f"{folder} lacks {lacking}-*-ubyte. All four IDX files of MNIST are needed.")
        sets = sorted({_set_of(file) or "one without a name" for file in files})
        if len(sets) > 1:
            raise DataError(f"{folder} holds several sets, {', '.join(sets)}: name the images of one.")
        arrays[name] = read_idx_file(files[0])
    return Dataset(**arrays, source=str(folder))


def _set_of(file: Path) -> str | None:
    """What stands before `train-images` and its like in a file's name; None where that does not."""
    found = re.match(rf"(.*?)-?({'|'.join(PARTS.values())})", file.name)
    return None if found is None else found[1]


def has_idx(folder: Path) -> bool:
    """Whether a folder holds the images of a training, as IDX."""
    return any(re.match(r"(.*-)?train-images", file.name) for file in folder.iterdir() if is_idx(file))


def read_idx_file(path: Path) -> Uint8:
    """The array in an IDX file of unsigned bytes, gzipped or not. Raises DataError."""
    blocks, size = [], 0
    for block in read_idx_blocks(path, 2**16):
        size += block.nbytes
        if size > _LARGEST:
            raise DataError(f"{path} holds more than {_LARGEST:,} bytes, which are not read at once.")
        blocks.append(block)
    array = np.concatenate(blocks)
    if array.dtype != np.uint8:
        raise DataError(f"{path} is not an IDX file of bytes but of {array.dtype}. Fetch an intact copy.")
    return array


def read_idx_blocks(path: Path, rows: int) -> Iterator[AnyArray]:
    """The array in an IDX file, gzipped or not, so many rows at a time; at least one block. Raises DataError.

    The format: two zeros, the type of a value, the number of axes, the length of each axis in four bytes, big-endian,
    then the values.
    """
    try:
        with open_plain(path) as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= _MOST_AXES:
                raise DataError(f"{path} is not an IDX file of bytes. Fetch an intact copy.")
            axes = file.read(4 * head[3])
            if len(axes) < 4 * head[3]:
                raise DataError(f"{path} is not an IDX file of bytes. Fetch an intact copy.")
            count, *shape = np.frombuffer(axes, ">u4").astype(int).tolist()
            dtype = np.dtype(_TYPES[head[2]])
            width = math.prod(shape) * dtype.itemsize
            if count and not width:
                raise DataError(f"{path} has empty rows. Fetch an intact copy.")
            if width * rows > _LARGEST:
                raise DataError(f"{path} has rows of {width:,} bytes, which are no pictures. Fetch an intact copy.")
            yield from _blocks(path, file, count, tuple(shape), dtype, rows)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch an intact copy.") from error


def _blocks(
    path: Path, file: IO[bytes], count: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int
) -> Iterator[AnyArray]:
    width = math.prod(shape) * dtype.itemsize
    done = 0
    while done < count or done == 0:
        wanted = min(rows, count - done)
        content = file.read(wanted * width)
        if len(content) < wanted * width:
            held = (done * width + len(content)) // dtype.itemsize
            promised = count * width // dtype.itemsize
            raise DataError(f"{path} has {held:,} values, its header says {promised:,}. Fetch an intact copy.")
        values: AnyArray = np.frombuffer(content, dtype).reshape(wanted, *shape)
        yield values.astype(dtype.newbyteorder("="))
        done += wanted
        if count == 0:
            break
    if file.read(1):
        raise DataError(f"{path} has more values than its header says. Fetch an intact copy.")


@contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where it is gzipped, whatever its name says. Raises OSError."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    if packed:
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]  # it reads as any file of bytes
    else:
        with path.open("rb") as opened:
            yield opened
