"""Sets the one digit in a grey picture as NIST's digits were set to become MNIST's.

Light on dark, cropped to its ink, scaled into 20x20 keeping its aspect, its centre of mass in the middle
of 28x28. It knows arrays alone: `read` turns bytes into them.
"""

from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from training.arrays import SIDE, Bool, Float32, Uint8
from training.errors import PictureError
from training.pictures.components import DigitMask, Sheet, bounds, edges_of, locate

BOX = 20  # pixels of the longer side of its ink
MIDDLE = 14.0  # where the centre of mass lies in all 70,000 of MNIST, within half a pixel

OFF_MIDDLE = 0.55  # pixels at most from there
LEAST_TOP = 128  # the lightest pixel of a glyph at least; MNIST's are all 254 or 255

# (784, 3): pixels times this are the sums of row, column and 1, weighted by level; below 2**24, so exact in float32.
MOMENTS = np.stack([*np.mgrid[:SIDE, :SIDE], np.ones((SIDE, SIDE))], -1).reshape(-1, 3).astype(np.float32)

WORK_SIDE = 256  # pixels; a larger picture is searched reduced
DETAIL = 64  # pixels of ink that are enough to draw it in 20; less is cut out of the larger picture
MIN_CONTRAST = 16.0  # grey levels between paper and ink; the noise of a blank scan stays well below
CLEAR = 0.85  # if paper and ink divide this well, the light need not be searched for a slope
FULL = 70  # the percentile of the ink's pixels that counts as a whole stroke
FAINT = 0.3  # ink lighter than this joins no two strokes
STROKE_WIDTH = 2.0  # pixels of the 20, MNIST's median; a finer line would fade away when scaled down
BINS = 128  # of a histogram of levels
LEVELS = np.arange(256, dtype=np.float32)
EDGE = 0.1  # ink lighter than this is outside the crop


class Found(NamedTuple):
    """ink: (h, w) in 0..1, the digit's alone, cropped, 0 where there is paper.

    grey: the picture, or the part of it, in which it was found. levels, digit: all ink in that, and where the digit is,
    both `factor` times as small.
    """

    ink: Float32
    grey: Uint8
    levels: Float32
    digit: DigitMask
    factor: int


def glyph_of(ink: Float32) -> Uint8:
    """(h, w) in 0..1, the digit's ink alone, cropped -> (28, 28) uint8, light on dark."""
    return centred(fitted(thickened(ink)))


def is_set_like_mnist(grey: Uint8) -> bool:
    """Whether a (28, 28) picture already is as `set_like_mnist` makes one; true of every MNIST digit."""
    if grey[0, 0] or grey[0, -1] or grey[-1, 0] or grey[-1, -1]:
        return False
    longer = max(lines_inked(grey.tobytes()), lines_inked(grey.T.tobytes()))
    if not BOX - 1 <= longer <= BOX:
        return False
    down, across, total = (grey.reshape(-1).astype(np.float32) @ MOMENTS).tolist()
    off = max(abs(down - MIDDLE * total), abs(across - MIDDLE * total))
    return off <= OFF_MIDDLE * total and int(grey.max()) >= LEAST_TOP


def lines_inked(pixels: bytes) -> int:
    """From the first to the last line of a glyph that is not black."""
    black_above = (SIDE * SIDE - len(pixels.lstrip(b"\0"))) // SIDE
    return -(-len(pixels.rstrip(b"\0")) // SIDE) - black_above


def find_ink(grey: Uint8) -> Found:
    """(h, w) uint8 of either polarity -> the digit's ink. PictureError `blank` without a stroke."""
    factor = factor_of(grey.shape)
    picture = reduced(grey, factor)
    ink = ink_levels(picture)
    located = locate(ink > FAINT)
    if isinstance(located, Sheet):
        return find_ink(grey[located.box.scaled(factor).slices])
    if not located.mask.any():
        raise PictureError(
            "blank", "There are specks, and none is a stroke. Send a picture in which the digit stands out."
        )
    box = located.box
    if factor > 1 and box.longer < DETAIL:
        return find_ink(grey[box.grown(2 + box.longer // 4, ink.shape).scaled(factor).slices])
    kept = np.where(widened(located.mask), ink, np.float32(0))
    return Found(kept[bounds(kept > EDGE).slices], grey, ink, located, factor)


def factor_of(shape: tuple[int, ...]) -> int:
    """How many times a picture is made smaller to be searched."""
    return -(-max(shape) // WORK_SIDE)


def reduced(grey: Uint8, factor: int) -> Uint8:
    """The mean of every factor x factor pixels."""
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))


def ink_levels(grey: Uint8) -> Float32:
    """(h, w) uint8 -> (h, w) float32: how much ink is at each pixel, 0 on the paper, 1 in a stroke.

    PictureError `blank` without ink.
    """
    level = grey.astype(np.float32)
    light, clearness = otsu_split(level, grey)
    if clearness < CLEAR:
        light = max((light, clearness), otsu_split(level - slope(level)), key=itemgetter(1))[0]
    # The edge may be a frame, and a bold digit may cover most of the picture: the whole counts twice, the edge once.
    paper_is_light = 2 * light.mean() + edges_of(light).mean() > 1.5
    paper = light if paper_is_light else ~light
    darkness = plane(fit_plane(level, paper), level.shape) - level
    ink = darkness if paper_is_light else -darkness
    strokes, _ = otsu_split(ink)
    stroke = float(np.percentile(ink[strokes], FULL)) if strokes.any() else 0.0
    if stroke < MIN_CONTRAST:
        raise PictureError(
            "blank",
            f"No ink was found: paper and ink differ by {max(stroke, 0):.0f} of 255 grey levels. "
            "Send a picture in which the digit stands out.",
        )
    return share_of_stroke(ink, strokes, stroke)


def share_of_stroke(ink: Float32, strokes: Bool, stroke: float) -> Float32:
    """(h, w) of any unit -> (h, w) in 0..1: 0 up to the noise of the paper, 1 in a whole stroke."""
    noise = 1.5 * float(np.median(np.abs(ink[~strokes])))  # a standard deviation, by the median
    floor = min(3 * noise, stroke / 4)
    share: Float32 = np.clip((ink - floor) / (stroke - floor), 0, 1)
    return share


def otsu_split(level: Float32, grey: Uint8 | None = None) -> tuple[Bool, float]:
    """Otsu's threshold (1979): the mask of the lighter pixels, and how well the threshold separates them.

    The second is the variance between the two classes as a share of all variance: near 1 for two plain greys.
    grey: the same levels as uint8, if they are whole: those are counted in a fifth of the time.
    """
    if grey is None:
        counts, edges = np.histogram(level, bins=BINS)
    else:
        each = np.bincount(grey.reshape(-1), minlength=len(LEVELS))
        counts, edges = np.histogram(LEVELS, bins=BINS, range=(grey.min(), grey.max()), weights=each)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = level.size - below
    sums = np.cumsum(counts * middles)
    apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * apart**2 / level.size**2
    best = int(np.argmax(between))
    return level > edges[1 + best], float(between[best] / max(level.var(), 1e-6))


def slope(level: Float32) -> Float32:
    """(h, w) -> (h, w): the plane through most of the pixels, which are paper lit from one side."""
    step = -(-max(level.shape) // 64)
    few = level[::step, ::step]
    most = np.ones(few.shape, bool)
    for _ in range(4):
        factors = fit_plane(few, most)
        off = np.abs(few - plane(factors, few.shape))
        most = off <= np.percentile(off, 70)  # ink is a minority, and soon left out
    return plane(factors, level.shape)


def fit_plane(level: Float32, where: Bool) -> Float32:
    """(3,): the factors of the least-squares plane through the pixels set in `where`."""
    places = np.flatnonzero(where)
    seen = slopes(level.shape).reshape(3, -1).take(places, axis=1)
    factors, *_ = np.linalg.lstsq(seen @ seen.T, seen @ level.reshape(-1)[places], rcond=None)
    return np.asarray(factors, np.float32)


def plane(factors: Float32, shape: tuple[int, ...]) -> Float32:
    """(3,) factors -> the plane, of `shape`."""
    level: Float32 = np.tensordot(factors, slopes(shape), axes=1)
    return level


@lru_cache(maxsize=4)
def slopes(shape: tuple[int, ...]) -> Float32:
    """(3, h, w): a level, a rise downwards and a rise to the right. At most 0.8 MB, and not to be changed."""
    height, width = shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.ones((3, height, width), np.float32)
    basis[1], basis[2] = y, x
    return basis


def widened(mask: Bool, reach: int | None = None) -> Bool:
    """The mask and the soft edge around it."""
    reach = 1 + max(mask.shape) // 64 if reach is None else reach
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.dilate(np.ascontiguousarray(mask).view(np.uint8), window).view(np.bool_)


def thickened(ink: Float32) -> Float32:
    """The same ink, its strokes widened where they are much thinner than MNIST's."""
    missing = STROKE_WIDTH * max(ink.shape) / BOX - stroke_width(ink > 0.5)
    if missing < 1.5:
        return ink
    size = 1 + 2 * round(missing / 2)
    image = np.rint(np.pad(ink, size // 2) * 255).astype(np.uint8)
    return cv2.dilate(image, np.ones((size, size), np.uint8)).astype(np.float32) / np.float32(255)


def stroke_width(drawn: Bool) -> float:
    """Pixels: a line has two long edges."""
    padded = np.pad(drawn, 1)
    outline = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    return 2 * np.count_nonzero(drawn) / max(outline, 1)


def fitted(ink: Float32) -> Float32:
    """(h, w) -> the same ink with a longer side of 20 pixels."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


def centred(ink: Float32) -> Uint8:
    """(h, w) of at most 20 -> (28, 28) uint8 with its centre of mass nearest to the middle."""
    glyph = np.zeros((SIDE, SIDE), np.uint8)
    total = float(ink.sum())
    corner = []
    for line in (ink.sum(axis=1), ink.sum(axis=0)):
        centre = float(line @ np.arange(len(line))) / total
        corner.append(min(max(round(MIDDLE - centre), 0), SIDE - len(line)))
    top, left = corner
    glyph[top : top + ink.shape[0], left : left + ink.shape[1]] = np.rint(ink * 255)
    return glyph
