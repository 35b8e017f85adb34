"""Sets the one digit in a grey picture as NIST's digits were set to become MNIST's.

Light on dark, cropped to its ink, scaled into 20x20 keeping its aspect, its centre of mass in the middle
of 28x28. It knows arrays alone: `read` turns bytes into them.
"""

from functools import cache, lru_cache
from typing import NamedTuple, cast

import cv2
import numpy as np
from PIL import Image

from training.arrays import SIDE, Bool, Float32, Uint8
from training.errors import PictureError
from training.pictures.components import Box, DigitMask, Sheet, bounds, locate
from training.pictures.levels import Evened, even_light

BOX = 20  # pixels of the longer side of its ink
MIDDLE = 14.0  # where the centre of mass lies in all 70,000 of MNIST, within half a pixel

OFF_MIDDLE = 0.55  # pixels at most from there
LEAST_TOP = 128  # the lightest pixel of a glyph at least; MNIST's are all 254 or 255

# (784, 3): pixels times this are the sums of row, column and 1, weighted by level; below 2**24, so exact in float32.
MOMENTS = np.stack([*np.mgrid[:SIDE, :SIDE], np.ones((SIDE, SIDE))], -1).reshape(-1, 3).astype(np.float32)

PLACES = np.stack([np.ones(BOX), np.arange(BOX)]).astype(np.float32)  # sums over these are exact as well

WORK_SIDE = 256  # pixels; a larger picture is searched reduced
DETAIL = 64  # pixels of ink that are enough to draw it in 20; less is cut out of the larger picture
TINY = 20  # pixels; a picture of fewer is searched enlarged
SMALL_SIDE, SMALL_DETAIL = 128, 12  # the same of a picture that has nothing but a digit in it
FAINT = 76  # of 255; ink that is no more joins no two strokes
HALF = 127  # of 255; more is a stroke's
EDGE = 25  # of 255; ink that is no more is outside the crop
STROKE_WIDTH = 2.0  # pixels of the 20, MNIST's median; a finer line would fade away when scaled down


class Found(NamedTuple):
    """ink: (h, w), the digit's alone, cropped, 0 where there is paper, 255 in a stroke.

    grey: the picture, or the part of it, in which it was found. levels, digit, box: all ink in that, and where the
    digit is, `factor` times as small.
    """

    ink: Uint8
    grey: Uint8
    levels: Uint8
    digit: DigitMask
    box: Box
    factor: int


def glyph_of(ink: Uint8) -> Uint8:
    """(h, w), the digit's ink alone, cropped -> (28, 28), light on dark."""
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


def find_ink(grey: Uint8, side: int = WORK_SIDE, detail: int = DETAIL) -> Found:
    """(h, w) uint8 of either polarity -> the digit's ink. PictureError `blank` without a stroke."""
    factor = factor_of(grey.shape, side)
    if max(grey.shape) < TINY:
        grey = enlarged(grey)
    picture = reduced(grey, factor)
    even = even_light(picture)
    ink = even.ink()
    located = locate(ink > FAINT)
    if isinstance(located, Sheet):
        return find_ink(grey[located.box.scaled(factor).slices], side, detail)
    box = located.box
    if box is None:
        raise PictureError(
            "blank", "There are specks, and none is a stroke. Send a picture in which the digit stands out."
        )
    if factor > 1 and box.longer < detail:
        return find_ink(grey[box.grown(2 + box.longer // 4, ink.shape).scaled(factor).slices], side, detail)
    drawn = (
        cut_out(ink, located.mask, box) if factor == 1 or side == WORK_SIDE else in_full(grey, even, located, factor)
    )
    return Found(drawn, grey, ink, located, box, factor)


def enlarged(grey: Uint8) -> Uint8:
    """A picture in so few pixels that strokes touch, or are a pixel thin, in DETAIL or more."""
    height, width = grey.shape
    times = -(-DETAIL // max(height, width))
    size = width * times, height * times
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))


def in_full(grey: Uint8, even: Evened, digit: DigitMask, factor: int) -> Uint8:
    """The digit's ink, cropped, from the picture in its own size, or what is enough of it."""
    assert digit.box is not None
    near = digit.box.grown(2, digit.mask.shape)
    part = grey[near.scaled(factor).slices]
    less = factor_of(part.shape)
    part = reduced(part, less)
    drawn = cv2.resize(digit.mask[near.slices].view(np.uint8), part.shape[::-1], interpolation=cv2.INTER_NEAREST)
    ink = even.part(part, near, factor / less).ink()
    return cropped(ink, cast(Uint8, drawn), 1 + factor // less)


def cut_out(ink: Uint8, mask: Bool, box: Box, reach: int | None = None) -> Uint8:
    """The ink of what a mask holds, and of the soft edge around it, cropped. box: where the mask is set."""
    reach = 1 + max(mask.shape) // 64 if reach is None else reach
    near = box.grown(reach, mask.shape).slices
    return cropped(ink[near], mask[near].view(np.uint8), reach)


def cropped(ink: Uint8, drawn: Uint8, reach: int) -> Uint8:
    """The ink within so many pixels of what is drawn, 1 there, else 0; cropped to what is not all but paper."""
    kept = cv2.copyTo(ink, cv2.dilate(drawn, window(reach)))
    return cast(Uint8, kept[bounds(kept > EDGE).slices])


@cache
def window(reach: int) -> Uint8:
    """What is so many pixels around one. Not to be changed."""
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def factor_of(shape: tuple[int, ...], side: int = WORK_SIDE) -> int:
    """How many times a picture is made smaller to be searched."""
    return -(-max(shape) // side)


def reduced(grey: Uint8, factor: int) -> Uint8:
    """The mean of every factor x factor pixels."""
    if factor == 1:
        return grey
    if factor == 2:  # by OpenCV in an eighth of the time
        height, width = grey.shape
        if height % 2 or width % 2:
            grey = cast(Uint8, cv2.copyMakeBorder(grey, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
        return cast(Uint8, cv2.resize(grey, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA))
    return np.asarray(Image.fromarray(grey).reduce(factor))


def widened(mask: Bool, reach: int) -> Bool:
    """The mask and what is so many pixels around it."""
    return cv2.dilate(np.ascontiguousarray(mask).view(np.uint8), window(reach)).view(np.bool_)


def thickened(ink: Uint8) -> Uint8:
    """The same ink, its strokes widened where they are much thinner than MNIST's."""
    missing = STROKE_WIDTH * max(ink.shape) / BOX - stroke_width(ink > HALF)
    if missing < 1.5:
        return ink
    by = round(missing / 2)
    return cast(Uint8, cv2.dilate(with_margin(ink, by), window(by)))


def stroke_width(drawn: Bool) -> float:
    """Pixels: a line has two long edges."""
    around = with_margin(drawn.view(np.uint8), 1)
    outline = cv2.norm(around[:, 1:], around[:, :-1], cv2.NORM_L1) + cv2.norm(around[1:], around[:-1], cv2.NORM_L1)
    return 2 * cv2.countNonZero(around) / max(outline, 1)


def with_margin(ink: Uint8, by: int) -> Uint8:
    """So many pixels of 0 around it."""
    return cast(Uint8, cv2.copyMakeBorder(ink, by, by, by, by, cv2.BORDER_CONSTANT, value=0))


def fitted(ink: Uint8) -> Uint8:
    """(h, w) -> the same ink with a longer side of 20 pixels, as Pillow's bicubic resampling makes it."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    levels, across, down = ink.astype(np.float32), shares(width, size[0]).T, shares(height, size[1])
    if height > 2 * width:  # what strokes overshoot is cut off after each step, so their order shows
        return rounded(rounded(down @ levels).astype(np.float32) @ across)
    return rounded(down @ rounded(levels @ across).astype(np.float32))


@lru_cache(maxsize=1024)
def shares(length: int, pixels: int) -> Float32:
    """(pixels, length): how much each of a line's pixels has of each that the line had before. Not to be changed."""
    wide = length / pixels
    middles = (np.arange(pixels) + 0.5) * wide
    away = np.abs(np.arange(length) + 0.5 - middles[:, None]) / max(wide, 1)
    near, far = (1.5 * away - 2.5) * away * away + 1, ((2.5 - 0.5 * away) * away - 4) * away + 2  # Keys's, of -1/2
    each = np.where(away < 1, near, np.where(away < 2, far, 0))
    return cast(Float32, (each / each.sum(axis=1, keepdims=True)).astype(np.float32))


def rounded(levels: Float32) -> Uint8:
    """Any levels -> uint8; what is below 0 or above 255 becomes that."""
    return cast(Uint8, cv2.addWeighted(levels, 1, levels, 0, 0, dtype=cv2.CV_8U))


def centred(ink: Uint8) -> Uint8:
    """(h, w) of at most 20 -> (28, 28) with its centre of mass nearest to the middle."""
    glyph = np.zeros((SIDE, SIDE), np.uint8)
    height, width = ink.shape
    (total, across), (down, _) = (PLACES[:, :height] @ ink.astype(np.float32) @ PLACES[:, :width].T).tolist()
    top = min(max(round(MIDDLE - down / total), 0), SIDE - height)
    left = min(max(round(MIDDLE - across / total), 0), SIDE - width)
    glyph[top : top + height, left : left + width] = ink
    return glyph
