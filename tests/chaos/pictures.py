"""The pictures that the cases send: random glyphs, real digits, and those that kill."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.injected.sitecustomize import DEADLY
from training.data import mnist
from worker.settings import Settings

Array = np.ndarray[Any, Any]
Pictures = dict[str, Array]  # key -> (28, 28) uint8


def noise(count: int, seed: int = 0, prefix: str = "") -> Pictures:
    """Random glyphs."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)
    return {f"{prefix}{at:06}": glyph for at, glyph in enumerate(pixels)}


def real(count: int, start: int = 0) -> Pictures:
    """MNIST's training digits, from `start` on."""
    digits = mnist.load(Settings().mnist).train_images[start : start + count]
    return {f"train/{at:05}": glyph for at, glyph in enumerate(digits, start)}


def sample(count: int) -> Pictures:
    """Real digits from the sample that comes with the tests, each moved to a place of its own, as many as asked for.

    For the tests, which have no MNIST.
    """
    with np.load(Path(__file__).parents[1] / "data" / "mnist-sample.npz") as arrays:
        digits = np.concatenate([arrays["x_train"], arrays["x_test"]])
    moves = [(down, right) for down in range(-4, 5) for right in range(-4, 5)]
    moved = (np.roll(digits, move, (1, 2)) for move in moves)
    every = (glyph for part in moved for glyph in part)
    return {f"sample/{at:05}": glyph for at, glyph in zip(range(count), every, strict=False)}


def deadly(seed: int = 0) -> Array:
    """A glyph that no stand-in tower survives."""
    pixels = np.random.default_rng(seed).integers(0, 256, 784, np.uint8)
    pixels[: len(DEADLY)] = np.frombuffer(DEADLY, np.uint8)
    return pixels.reshape(28, 28)


def digests(pictures: Mapping[str, Array]) -> dict[str, bytes]:
    """Key -> SHA-256 of the pixels, as the ledger keeps it."""
    return {key: hashlib.sha256(glyph.tobytes()).digest() for key, glyph in pictures.items()}
