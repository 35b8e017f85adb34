"""Digits without end: MNIST, then MNIST in paler strokes, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from training.arrays import Uint8
from training.data import mnist

BLOCK = 1_000  # digits that are made at a time
INK = 100  # levels above are a stroke's, which is paler by one each time that MNIST begins anew
TURNS = 120  # so often; what is left is set as MNIST's digits are, and taken as it is


@cache
def originals() -> Uint8:
    """MNIST's 70,000 digits, (70000, 28, 28) uint8."""
    data = mnist.load()
    return np.concatenate([data.train_images, data.test_images])


def digits(start: int, stop: int) -> Uint8:
    """Digits `start` to `stop` of a long row: MNIST, then MNIST paler, and so on; (n, 28, 28) uint8."""
    images = originals()
    count = len(images)
    turns = range(start // count, (stop - 1) // count + 1)
    parts = [images[max(start - turn * count, 0) : stop - turn * count] for turn in turns]
    return np.concatenate(
        [part - (part > INK) * np.uint8(turn % TURNS) for turn, part in zip(turns, parts, strict=True)]
    )


def blocks(count: int, size: int = BLOCK, *, name: str = "digit") -> Iterator[tuple[list[str], Uint8]]:
    """The first `count` digits with their keys, `size` at a time: any number in constant memory."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield [f"{name}/{index:07}" for index in range(start, stop)], digits(start, stop)


def stream(count: int, *, name: str = "digit") -> Iterator[tuple[str, Uint8]]:
    """The first `count` digits as the client takes them: (key, (28, 28) uint8)."""
    for keys, images in blocks(count, name=name):
        yield from zip(keys, images, strict=True)


def encoded(count: int) -> list[tuple[str, bytes]]:
    """The first `count` digits as PNG files, all made at once: their reading can be timed alone."""
    return [(key, _png(image)) for key, image in stream(count)]


def _png(image: Uint8) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
