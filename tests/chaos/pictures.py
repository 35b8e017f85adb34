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
    """Random glyphs, set as MNIST's digits are: in 20x20 and centred, so they are taken as they are."""
    pixels = np.zeros((count, 28, 28), np.uint8)
    half = np.random.default_rng(seed).integers(1, 256, (count, 10, 20), np.uint8)
    pixels[:, 4:14, 4:24], pixels[:, 14:24, 4:24] = half, half[:, ::-1, ::-1]
    return {f"{prefix}{at:06}": glyph for at, glyph in enumerate(pixels)}


def real(count: int, start: int = 0) -> Pictures:
    """MNIST's training digits, from `start` on."""
    digits = mnist.load(Settings().mnist).train_images[start : start + count]
    return {f"train/{at:05}": glyph for at, glyph in enumerate(digits, start)}


def sample(count: int) -> Pictures:
    """Real digits from the sample that comes with the tests, as many as asked for: each time with paler strokes.

    For the tests, which have no MNIST.
    """
    with np.load(Path(__file__).parents[1] / "data" / "mnist-sample.npz") as arrays:
        digits = np.concatenate([arrays["x_train"], arrays["x_test"]])
    every = (glyph for turn in range(81) for glyph in digits - (digits > 100) * np.uint8(turn))
    return {f"sample/{at:05}": glyph for at, glyph in zip(range(count), every, strict=False)}


def deadly(seed: int = 0) -> Array:
    """A glyph that no stand-in tower survives."""
    (pixels,) = noise(1, seed).values()
    line = np.frombuffer(DEADLY, np.uint8)[:20]
    pixels[13, 4:24], pixels[14, 4:24] = line, line[::-1]  # its centre stays where it was
    return pixels


def digests(pictures: Mapping[str, Array]) -> dict[str, bytes]:
    """Key -> SHA-256 of the pixels, as the ledger keeps it."""
    return {key: hashlib.sha256(glyph.tobytes()).digest() for key, glyph in pictures.items()}
