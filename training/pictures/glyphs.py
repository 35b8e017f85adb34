"""28x28 pictures whose levels are at hand: whether they are set as MNIST's digits are, many at a time, or become so.

It knows arrays alone. The bulk path asks of every digit, so the question is cheap: about a microsecond each.
"""

from __future__ import annotations

import numpy as np

from training.arrays import SIDE, Bool, Uint8
from training.errors import PictureError
from training.pictures.levels import MIN_CONTRAST
from training.pictures.normalise import BOX, LEAST_TOP, MIDDLE, MOMENTS, OFF_MIDDLE
from training.pictures.reading import set_like_mnist

BLOCK = 512  # glyphs that are looked at together: of fewer, what each call of NumPy costs is felt

_MOMENTS = np.ascontiguousarray(MOMENTS.T)

Outcome = bytes | PictureError  # 784 pixels, or why there are none


def normalised(pixels: Uint8) -> list[Outcome]:
    """(n, 784) uint8 -> 784 bytes for each, or the PictureError that refuses it.

    What is set as MNIST's digits are is taken byte for byte. All else is normalised: of either polarity, anywhere in
    its 28x28; with 0 and 1 alone it is black and white.
    """
    blob, size = pixels.tobytes(), SIDE * SIDE
    outcomes: list[Outcome] = [blob[at : at + size] for at in range(0, len(blob), size)]
    for place in np.flatnonzero(~are_set_like_mnist(pixels)).tolist():
        outcomes[place] = set_or_refused(pixels[place])
    return outcomes


def set_or_refused(pixels: Uint8) -> Outcome:
    """(784,) uint8 -> its glyph, or why there is none."""
    low, high = int(pixels.min()), int(pixels.max())
    if (low, high) == (0, 1):
        pixels, high = pixels * np.uint8(255), 255
    if high - low < MIN_CONTRAST:
        return PictureError(
            "blank",
            f"The array's levels go from {low} to {high}, and 0 to 255 are expected. If there is ink, give floats "
            "in 0..1, or multiply the levels.",
        )
    try:
        return set_like_mnist(pixels.reshape(SIDE, SIDE)).tobytes()
    except PictureError as error:
        return error


def are_set_like_mnist(pixels: Uint8) -> Bool:
    """(n, 784) uint8, contiguous -> (n,): what `normalise.is_set_like_mnist` says of each."""
    parts = [_are_set(pixels[at : at + BLOCK]) for at in range(0, len(pixels), BLOCK)]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _are_set(pixels: Uint8) -> Bool:
    corners = pixels[:, 0] | pixels[:, SIDE - 1] | pixels[:, -SIDE] | pixels[:, -1]
    words = pixels.view(np.uint32)  # four pixels at a time
    by_row = words.reshape(len(pixels), SIDE, SIDE // 4)
    rows = np.bitwise_or.reduce([by_row[:, :, place] for place in range(SIDE // 4)]) != 0
    # Columns: one half of the rows upon the other, in long runs, which is three times as fast as a reduction.
    half = words[:, :98] | words[:, 98:]
    quarter = half[:, :49] | half[:, 49:]
    three = quarter[:, :21] | quarter[:, 21:42]
    columns = (three[:, :7] | three[:, 7:14] | three[:, 14:] | quarter[:, 42:]).view(np.uint8) != 0
    longer = np.maximum(extents(rows), extents(columns))
    levels = pixels.astype(np.float32)
    down, across, total = (levels @ moment for moment in _MOMENTS)
    off = np.maximum(np.abs(down - MIDDLE * total), np.abs(across - MIDDLE * total))
    is_full = pixels.max(axis=1) >= LEAST_TOP
    are_set: Bool = (corners == 0) & (longer >= BOX - 1) & (longer <= BOX) & (off <= OFF_MIDDLE * total) & is_full
    return are_set


def extents(lines: Bool) -> Uint8:
    """(n, 28) -> (n,): from the first to the last that is set; 28 where none is."""
    found: Uint8 = SIDE - lines.argmax(axis=1) - lines[:, ::-1].argmax(axis=1)
    return found
