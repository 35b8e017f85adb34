"""IDX files, the format in which MNIST was published. It must not know what they hold beyond unsigned bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from training.arrays import Uint8
from training.data.dataset import Dataset
from training.errors import DataError

NAMES = {  # ours -> how the file's name begins
    "train_images": "train-images",
    "train_labels": "train-labels",
    "test_images": "t10k-images",
    "test_labels": "t10k-labels",
}
MAX_BYTES = 64 * 2**20  # of a file, unpacked; the largest of the four unpacks to 47 MB


def read_idx(folder: Path) -> Dataset:
    """The four IDX files of a folder, each gzipped or not, under any of their usual names. Raises DataError."""
    arrays = {}
    for name, beginning in NAMES.items():
        files = sorted(folder.glob(f"{beginning}*"))
        if not files:
            raise DataError(f"{folder} lacks {beginning}-*-ubyte. All four IDX files of MNIST are needed.")
        arrays[name] = read_idx_file(files[0])
    return Dataset(**arrays, source=str(folder))


def read_idx_file(path: Path) -> Uint8:
    """The array in an IDX file of unsigned bytes, gzipped or not: up to three axes. Raises DataError.

    The format: two zeros, 8, the number of axes, the length of each axis in four bytes, big-endian, then the values.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch an intact copy.") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] > 3 or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes. Fetch an intact copy.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != shape.prod():
        raise DataError(f"{path} has {values.size:,} values, its header says {shape.prod():,}. Fetch an intact copy.")
    return values.reshape(shape)
