"""A tower of dense layers alone, read from its file and computed by NumPy: a few matrix products need no framework.

It must not load Keras. What it computes differs from what Keras does by less than 1e-5 in any number.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import h5py
import numpy as np

from training.arrays import DIMENSIONS, PIXELS, SIDE, AnyArray, Bool, Float32, Uint8
from training.errors import TowerError
from training.model.archive import check_plain

BLOCK = 512  # rows at a time: what lies between two layers then stays in a core's cache


def _within() -> Bool:
    """(784,): whether a pixel lies where glyphs have their ink: 524 of them; 86 % of MNIST's training images have none
    beyond. A rounded rectangle, the one about which MNIST leaves the least to multiply, within a percent."""
    rows, columns = np.abs(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)
    within: Bool = ((rows / 13.0) ** 3 + (columns / 11.5) ** 3 <= 1).ravel()
    return within


WITHIN = _within()
_INNER, _OUTER = np.flatnonzero(WITHIN), np.flatnonzero(~WITHIN)
_BEYOND = np.where(WITHIN, 0, 255).astype(np.uint8).view(np.uint64)  # eight pixels at a time


class Layer(NamedTuple):
    """kernel: (n, m) float32. bias: (m,) float32. rectified: whether what is below 0 becomes 0."""

    kernel: Float32
    bias: Float32
    rectified: bool


class DenseTower:
    """(n, 28, 28) or (n, 784) uint8 -> (n, 128) float32, row by row.

    What a layer's kernel makes of pixels that are 0 is 0: most glyphs are multiplied by the rows `WITHIN` of the first
    kernel alone, a third less, and the others by the rest of it as well, with the same sum for either.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.fingerprint = fingerprint([weights for layer in layers for weights in (layer.kernel, layer.bias)])
        first, *self._others = layers
        kernel = np.divide(first.kernel, 255, dtype=np.float32)  # once, instead of all pixels each time
        self._first, self._beyond = first._replace(kernel=kernel[_INNER]), kernel[_OUTER]

    def __call__(self, images: AnyArray) -> Float32:
        """Raises TowerError for arrays that are not glyphs."""
        check_glyphs(images)
        pixels = np.ascontiguousarray(images).reshape(-1, PIXELS)
        vectors = np.empty((len(pixels), DIMENSIONS), np.float32)
        blocks = [slice(start, start + BLOCK) for start in range(0, len(pixels), BLOCK)]

        def embed(block: slice) -> None:
            vectors[block] = self._compute(pixels[block])

        for _ in map(embed, blocks) if len(blocks) < 2 else _threads().map(embed, blocks):
            pass
        return vectors

    def _compute(self, pixels: Uint8) -> Float32:
        """(n, 784) uint8 -> (n, 128) float32."""
        rows: Float32 = pixels.take(_INNER, axis=1).astype(np.float32) @ self._first.kernel
        beyond = np.flatnonzero((pixels.view(np.uint64) & _BEYOND).any(axis=1))
        if len(beyond):
            rows[beyond] += pixels[beyond].take(_OUTER, axis=1).astype(np.float32) @ self._beyond
        _finish(rows, self._first)
        for layer in self._others:
            rows = rows @ layer.kernel
            _finish(rows, layer)
        return rows


def _finish(rows: Float32, layer: Layer) -> None:
    """Make products the layer's activations, in place."""
    rows += layer.bias
    if layer.rectified:
        np.maximum(rows, 0, out=rows)


def read(file: bytes) -> DenseTower | None:
    """The tower in the bytes of a `.keras` file; None where it is not one of dense layers alone, written as Keras does.

    Raises TowerError as `archive.check_plain` does, and where it maps other shapes.
    """
    try:
        planned = _planned(check_plain(io.BytesIO(file)))
        if planned is None:
            return None
        with zipfile.ZipFile(io.BytesIO(file)) as archive, archive.open("model.weights.h5") as member:
            weights = member.read()
        with h5py.File(io.BytesIO(weights), "r") as stored:
            layers = [
                Layer(
                    _array(stored, each.name, 0, each.kernel), _array(stored, each.name, 1, each.bias), each.rectified
                )
                for each in planned
            ]
    except TowerError:
        raise
    except Exception:  # a damaged archive raises any error of its reader; Keras says which
        return None
    return DenseTower(layers)


def fingerprint(weights: Sequence[AnyArray]) -> str:
    """SHA-256 of the weights, hex: shapes, dtypes and values in order, without the names of layers."""
    digest = hashlib.sha256()
    for each in weights:
        digest.update(f"{each.dtype.str}{each.shape}".encode())
        digest.update(np.ascontiguousarray(each).tobytes())
    return digest.hexdigest()


def check_glyphs(images: AnyArray) -> None:
    """Raises TowerError for arrays that are not glyphs."""
    if images.dtype != np.uint8 or images.shape[1:] not in ((28, 28), (PIXELS,)):
        raise TowerError(f"pixels of shape {images.shape} and dtype {images.dtype}: expected (n, 28, 28) uint8")


class _Planned(NamedTuple):
    """name: of the group that its weights stand in. kernel, bias: their shapes."""

    name: str
    kernel: tuple[int, int]
    bias: tuple[int]
    rectified: bool


def _planned(config: dict[str, Any]) -> list[_Planned] | None:
    """The dense layers of a configuration; None where it has any others, or some that compute in another way."""
    planned: list[_Planned] = []
    width = PIXELS
    try:
        first, *others = config["config"]["layers"]
        if config["class_name"] != "Sequential" or first["class_name"] != "InputLayer" or not others:
            return None
        if list(first["config"]["batch_shape"]) != [None, PIXELS]:
            return None
        for at, layer in enumerate(others):
            said = layer["config"]
            if layer["class_name"] != "Dense" or said["activation"] not in ("linear", "relu") or not _is_plain(said):
                return None
            units = int(said["units"])
            name = "dense" if at == 0 else f"dense_{at}"  # as Keras names them in the file, whatever they are called
            planned.append(_Planned(name, (width, units), (units,), said["activation"] == "relu"))
            width = units
    except (KeyError, TypeError, ValueError):
        return None
    return planned if width == DIMENSIONS else None


def _is_plain(said: dict[str, Any]) -> bool:
    """Whether a dense layer is float32, with a bias, and neither quantised nor of low rank."""
    dtype = said["dtype"]
    policy = dtype if isinstance(dtype, str) else dtype["config"]["name"]
    others = (said.get("quantization_config"), said.get("lora_rank"), said.get("quantization_mode"))
    return policy == "float32" and said["use_bias"] is True and not any(others)


def _array(stored: Any, name: str, at: int, shape: tuple[int, ...]) -> Float32:
    """One array of a layer. Raises KeyError or ValueError where it is another, or refers to another file."""
    place = f"layers/{name}/vars/{at}"
    parts = place.split("/")
    paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    if not all(isinstance(stored.get(path, getlink=True), h5py.HardLink) for path in paths):
        raise ValueError(f"{place} leads elsewhere")
    found = stored[place]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external is not None:
        raise ValueError(f"{place} does not hold its numbers itself")
    if found.shape != shape or found.dtype != np.float32:
        raise ValueError(f"{place} is {found.dtype} of shape {found.shape}, and not of {shape}")
    values: Float32 = found[:]
    return values


@cache
def _threads() -> ThreadPoolExecutor:
    """Of this process. NumPy's own would wait for the next product by spinning, which takes a core from others."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="tower")
