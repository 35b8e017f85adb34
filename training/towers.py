"""The tower: 28x28 pixels -> a 128-d embedding. The whole model is here; how it is trained is not."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training.errors import TowerError
from training.parts import SIZES, Parts

SIDE = 28
PIXELS = SIDE * SIDE
DIMENSIONS = 128
MAX_FILE_BYTES = 256 * 2**20

# All that a tower is made of. Each is Keras's own and computes; none of them can carry code.
PLAIN = {
    "keras": {"Sequential", "DTypePolicy"},
    "keras.layers": {
        "BatchNormalization",
        "Conv2D",
        "Dense",
        "Flatten",
        "GlobalAveragePooling2D",
        "InputLayer",
        "MaxPooling2D",
        "ReLU",
        "Rescaling",
        "Reshape",
    },
    "keras.initializers": {"GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Ones", "Zeros"},
}

Array = np.ndarray[Any, Any]


class EuclideanDistance(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """((n, d), (n, d)) -> (n, 1), row by row."""

    def call(self, twins: tuple[Any, Any]) -> Any:
        one, other = twins
        squares = ops.sum(ops.square(one - other), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, 1e-12))  # sqrt'(0) is infinite, and a picture may be its own twin


def build_twins(tower: Any) -> Any:
    """Two inputs (n, 784) through the one tower, so that weights are shared -> the distance (n, 1) of each pair."""
    one, other = keras.Input((PIXELS,)), keras.Input((PIXELS,))
    return keras.Model([one, other], EuclideanDistance()([tower(one), tower(other)]))


def scaled(images: Array) -> Array:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 784) float32 in 0..1."""
    return np.divide(images.reshape(-1, PIXELS), 255, dtype=np.float32)


def save(tower: Any) -> bytes:
    """The tower as the bytes of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.keras"
        tower.save(path)
        return path.read_bytes()


def load(file: bytes) -> Any:
    """The tower in the bytes of a `.keras` file, without optimizer. Nothing in it is executed.

    Raises TowerError where it is no such file, holds anything but plain layers (a Lambda, say), or maps other shapes.
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
    except Exception as error:  # a damaged archive raises whatever its reader meets
        raise TowerError(f"this tower file cannot be loaded: {error}") from error
    shapes = getattr(tower, "input_shape", None), getattr(tower, "output_shape", None)
    if shapes != ((None, PIXELS), (None, DIMENSIONS)):
        raise TowerError(f"this file maps {shapes[0]} to {shapes[1]}: a tower maps 784 pixels to 128 numbers")
    return tower


def check_plain(path: Path) -> None:
    """Raises TowerError unless the file is a `.keras` archive of moderate size and its model of plain layers."""
    if not zipfile.is_zipfile(path):
        raise TowerError("this is no `.keras` file")
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise TowerError(f"a tower file that unpacks to {unpacked:,} bytes: at most {MAX_FILE_BYTES:,} are loaded")
        config = json.loads(archive.read("config.json"))
    for module, name, registered in parts_of(config):
        if registered is not None or name not in PLAIN.get(str(module), ()):
            raise TowerError(f"this file holds a {name} of {module}: a tower is made of Keras's plain layers alone")


def parts_of(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(module, class name, registered name) of everything that loading this configuration would build."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config.get("module"), config["class_name"], config.get("registered_name")
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from parts_of(part)


def fingerprint(tower: Any) -> str:
    """SHA-256 of the weights, hex: shapes, dtypes and values in order, whatever the layers are called."""
    digest = hashlib.sha256()
    for weights in tower.get_weights():
        digest.update(f"{weights.dtype.str}{weights.shape}".encode())
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


class Embedder:
    """A tower made ready to embed: (n, 28, 28) or (n, 784) uint8 -> (n, 128) float32, row by row.

    It is compiled for a few sizes and never again, and goes on in smaller parts where memory runs out.
    """

    def __init__(self, tower: Any) -> None:
        # Bytes go in and are scaled in the compiled call: 227,000 images a second on 2 cores instead of 152,000.
        pixels = keras.Input((PIXELS,), dtype="uint8")
        self._model = keras.Model(pixels, tower(layers.Rescaling(1 / 255)(pixels)))
        self._weights = tower.get_weights()
        self._may_lack_weights = False
        self._in_parts = Parts(self._compute, DIMENSIONS)

    def __call__(self, images: Array) -> Array:
        """Raises TowerError for arrays that are no glyphs, and what the backend raises."""
        if images.dtype != np.uint8 or images.shape[1:] not in ((28, 28), (PIXELS,)):
            raise TowerError(f"pixels of shape {images.shape} and dtype {images.dtype}: expected (n, 28, 28) uint8")
        return self._in_parts(images.reshape(-1, PIXELS))

    def warm_up(self) -> None:
        """Compile every size."""
        for size in SIZES:
            self(np.zeros((size, PIXELS), np.uint8))

    def _compute(self, pixels: Array) -> Array:
        """(n, 784) uint8 -> (n, 128) float32 in one call of the backend."""
        if self._may_lack_weights:
            self._model.set_weights(self._weights)
        self._may_lack_weights = True  # JAX is lent the weights, and a call that fails does not return them
        vectors: Array = self._model.predict_on_batch(pixels)
        self._may_lack_weights = False
        return vectors
