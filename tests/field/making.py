"""What the tests of the field share: digits put into conditions, and how like two glyphs are."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from training.arrays import AnyArray, Float32, Uint8
from training.errors import PictureError
from training.pictures.read import read_picture


def written(picture: AnyArray | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def enlarged(digit: Uint8, side: int) -> Uint8:
    """(28, 28) -> (side, side)."""
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def ink_of(digit: Uint8, side: int = 112, margin: int = 20) -> Float32:
    """(28, 28) -> (side + 2 * margin, the same) in 0..1: how much ink is where."""
    return np.pad(enlarged(digit, side), margin).astype(np.float32) / np.float32(255)


def likeness(one: Uint8, other: Uint8) -> float:
    """The correlation of two glyphs, one of them moved by at most a pixel: 1 for the same, about 0.4 for others."""
    moved = [np.roll(one, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(float(np.corrcoef(each.ravel(), other.ravel())[0, 1]) for each in moved)


def outcome(picture: bytes) -> Uint8 | str:
    """The glyph, or the reason why there is none."""
    try:
        return read_picture(picture)
    except PictureError as error:
        return error.reason
