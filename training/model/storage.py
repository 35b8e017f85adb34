"""Towers as `.keras` files: saved, and loaded without executing anything in them.

It must not know where the files are kept.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.backend import keras
from training.errors import TowerError
from training.model.siamese import DIMENSIONS, PIXELS

MAX_FILE_BYTES = 256 * 2**20

# All that a tower is made of, as `folding` leaves it. Each is Keras's own and computes; none of them can carry code.
PLAIN = {
    "keras": {"Sequential", "DTypePolicy"},
    "keras.layers": {"Conv2D", "Dense", "Flatten", "InputLayer", "Reshape"},
    "keras.initializers": {"GlorotUniform", "Zeros"},
}


def save(tower: keras.Model) -> bytes:
    """The tower as the bytes of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.keras"
        tower.save(path)
        return path.read_bytes()


def load(file: bytes) -> keras.Sequential:
    """The tower in the bytes of a `.keras` file, without optimizer. Nothing in it is executed.

    Raises TowerError where it is not such a file, holds anything but plain layers (a Lambda, say), or maps other
    shapes.
    """
    if len(file) > MAX_FILE_BYTES:
        raise TowerError(f"a tower file of {len(file):,} bytes: at most {MAX_FILE_BYTES:,} are loaded")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tower.keras"
            path.write_bytes(file)
            check_plain(path)
            tower = keras.saving.load_model(path, compile=False, safe_mode=True)
    except TowerError:
        raise
    except Exception as error:  # a damaged archive raises any error of its reader
        raise TowerError(f"this tower file cannot be loaded: {error}") from error
    shapes = getattr(tower, "input_shape", None), getattr(tower, "output_shape", None)
    if shapes != ((None, PIXELS), (None, DIMENSIONS)):
        raise TowerError(f"this file maps {shapes[0]} to {shapes[1]}: a tower maps 784 pixels to 128 numbers")
    return tower


def check_plain(path: Path) -> None:
    """Raises TowerError unless the file is a `.keras` archive of moderate size and its model of plain layers."""
    if not zipfile.is_zipfile(path):
        raise TowerError("this is not a `.keras` file")
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise TowerError(f"a tower file that unpacks to {unpacked:,} bytes: at most {MAX_FILE_BYTES:,} are loaded")
        config = json.loads(archive.read("config.json"))
    for module, name, registered in classes_in(config):
        if registered is not None or name not in PLAIN.get(str(module), ()):
            raise TowerError(f"this file holds a {name} of {module}: a tower is made of Keras's plain layers alone")


def classes_in(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(module, class name, registered name) of everything that loading this configuration would build."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config.get("module"), config["class_name"], config.get("registered_name")
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from classes_in(value)


def fingerprint(tower: keras.Model) -> str:
    """SHA-256 of the weights, hex: shapes, dtypes and values in order, without the names of layers."""
    digest = hashlib.sha256()
    for weights in tower.get_weights():
        digest.update(f"{weights.dtype.str}{weights.shape}".encode())
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()
