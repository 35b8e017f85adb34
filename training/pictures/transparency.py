"""Pictures with transparency -> grey ones. It knows arrays alone, not files.

Either a sheet of paper has transparent parts, and they become paper. Or strokes were drawn on nothing, as every canvas
in a browser sends them, and alpha is the ink, whatever the colours of the pens.
"""

from typing import cast

import numpy as np
from PIL import Image

from training.arrays import AnyArray, Bool, Int64, Uint8

SAMPLE = 128  # pixels of the side of what is looked at
LEAST_ALPHA = 8  # of 255; what is no more opaque anywhere is empty
SHEET = 0.34  # a square of this share of the longer side fits into paper, and into no stroke
FLAT = 64  # grey levels within which what is opaque has one colour
HARD = 0.1  # of what is drawn at most is half transparent where alpha has no soft edges
SHADED = 8  # grey levels by which the rim of strokes differs from their core where levels have soft edges
WORK_SIDE = 512  # pixels; larger strokes are weighed reduced
BLOCK = 256  # rows that are computed at a time


def filled(picture: Uint8) -> Uint8:
    """(h, w, 2) level and alpha -> (h, w): paper where paper is transparent, or light strokes that lay on nothing."""
    level, alpha = picture[..., 0], picture[..., 1]
    counts = counted(alpha)
    counts[:LEAST_ALPHA] = 0
    if not counts.any():
        return np.zeros(level.shape, np.uint8)
    top = percentile(counts, 0.99)  # a pen may be half transparent all over
    step = -(-max(alpha.shape) // SAMPLE)
    if is_sheet(alpha[::step, ::step] > top / 2):
        return on_paper(level, alpha, top)
    table = rounded(np.minimum(np.arange(256) * (255 / top), 255))
    ink = table[alpha]
    return weighed(level, ink) if is_hard(counts, top) else ink


def is_sheet(opaque: Bool) -> bool:
    """Whether what is opaque is an area, and not strokes: a large square fits into it, turned or round as it may be."""
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    if not len(rows):
        return False
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    side = max(2, round(SHEET * max(height, width)))
    if side > min(height, width):
        return False
    sums = np.pad(opaque, ((1, 0), (1, 0))).astype(np.int32).cumsum(axis=0).cumsum(axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool(inside.max(initial=0) >= 0.97 * side * side)


def on_paper(level: Uint8, alpha: Uint8, top: float) -> Uint8:
    """What is transparent becomes paper, of the level of the sheet's rim; around a flat one, black or white."""
    step = -(-max(alpha.shape) // SAMPLE)
    opaque = np.pad(alpha[::step, ::step] > top / 2, 1)
    rim = (opaque & largest_near(~opaque, 1))[1:-1, 1:-1]
    levels = level[::step, ::step]
    low, high = np.percentile(levels[opaque[1:-1, 1:-1]], (0.5, 99.5))
    edge = float(np.median(levels[rim]))
    paper = np.float32(edge if high - low > FLAT else 255.0 * (edge < 128))
    whole = np.empty(level.shape, np.uint8)
    for rows in (slice(top, top + BLOCK) for top in range(0, len(level), BLOCK)):  # not ten bytes a pixel at once
        share = alpha[rows] / np.float32(255)
        whole[rows] = rounded(level[rows] * share + paper * (1 - share))
    return whole


def is_hard(counts: Int64, top: float) -> bool:
    """Whether what is drawn is opaque or not, with nothing between, as where one colour was made transparent."""
    half = counts[: int(0.8 * top)].sum()
    return bool(half <= HARD * counts.sum())


def weighed(level: Uint8, ink: Uint8) -> Uint8:
    """Strokes whose soft edges are in their levels, as where white was made transparent: the levels weigh the ink.

    Each pixel counts by its level against the darkest near it (or the lightest, for a light pen), so pens of several
    shades are all whole strokes. What lies around the strokes is cut off.
    """
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    factor = -(-max(len(rows), len(columns)) // WORK_SIDE)
    level, ink = (reduced(each[box], factor) for each in (level, ink))
    margin = 2 + max(ink.shape) // 8
    level, ink = np.pad(level, margin, mode="edge"), np.pad(ink, margin)
    drawn = ink > 127
    core = drawn & ~largest_near(~drawn, 1)
    rim = drawn & ~core
    if not core.any() or not rim.any():
        return ink
    difference = float(level[rim].mean()) - float(level[core].mean())
    if abs(difference) < SHADED:
        return ink
    depth = np.where(drawn, 255 - level if difference > 0 else level, np.uint8(0))
    full = largest_near(depth, 2 + max(level.shape) // 40)
    share = depth.astype(np.float32) / np.maximum(full, 1, dtype=np.float32)
    return rounded(ink * share)


def reduced(grey: Uint8, factor: int) -> Uint8:
    """The mean of every factor x factor pixels."""
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))


def largest_near(values: AnyArray, reach: int) -> AnyArray:
    """(h, w): the largest value within a square of `reach` pixels to each side, of an edge that goes on outside."""
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="edge")
        size = values.shape[axis]
        values = np.maximum.reduce([padded.take(range(i, i + size), axis) for i in range(2 * reach + 1)])
    return values


def counted(levels: Uint8) -> Int64:
    """(256,): how often each level occurs, some rows at a time: counting makes eight bytes of each."""
    parts = [np.bincount(levels[top : top + BLOCK].ravel(), minlength=256) for top in range(0, len(levels), BLOCK)]
    return cast(Int64, np.sum(parts, axis=0))


def percentile(counts: Int64, share: float) -> float:
    """NumPy's percentile of the levels that are counted: (256,), how often each occurs."""
    place = share * (int(counts.sum()) - 1)
    below, above = np.searchsorted(np.cumsum(counts), [np.floor(place), np.ceil(place)], side="right").tolist()
    return float(below + (above - below) * (place - np.floor(place)))


def rounded(levels: AnyArray) -> Uint8:
    """Levels in 0..255 -> uint8."""
    glyph: Uint8 = np.rint(levels).astype(np.uint8)
    return glyph
