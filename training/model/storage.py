"""Towers as `.keras` files: saved, and loaded without executing anything in them.

It must not know where the files are kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from training.arrays import DIMENSIONS, PIXELS
from training.backend import keras
from training.errors import TowerError
from training.model import dense
from training.model.archive import MAX_FILE_BYTES, check_plain


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


def fingerprint(tower: keras.Model) -> str:
    """As `dense.fingerprint`, of all weights of a tower."""
    return dense.fingerprint(tower.get_weights())
