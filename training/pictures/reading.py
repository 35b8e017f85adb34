"""The one digit in a grey picture, set as MNIST's are, whatever lies beside it.

A picture is read plainly first (`normalise`). Where nothing speaks against that reading, it counts. Else the picture is
read in other ways as well: part by part, against the paper around each pixel, without printed lines, inside a card or a
ring. Another reading takes the plain one's place only if it is much more like a digit; where the plain one has no
digit's form and none is like one, or where several figures are digits, the picture is refused. It knows arrays alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np

from training.arrays import Bool, Uint8
from training.errors import PictureError
from training.pictures.cards import sheets
from training.pictures.components import Box, around, find_components
from training.pictures.figures import LARGE, figures
from training.pictures.forms import (
    HARD,
    SOFT,
    crosses,
    is_block,
    is_foreign,
    oddness,
    oddness_of_box,
    thickness,
    touches,
)
from training.pictures.inks import darkest_ink, local_ink, strokes_are_dark, without_lines
from training.pictures.likeness import unlikeness
from training.pictures.normalise import (
    DETAIL,
    EDGE,
    FAINT,
    HALF,
    SMALL_DETAIL,
    SMALL_SIDE,
    Found,
    cut_out,
    find_ink,
    glyph_of,
    reduced,
    stroke_width,
    widened,
)

COARSE = 48  # pixels of a side, below which a picture is only read plainly
LIKELY = 1.9  # of unlikeness, up to which a reading is like a digit: so are 95 % of MNIST's
CLEARLY = 1.8  # up to which a reading of the picture made small counts
UNLIKELY = 3.0  # up to which a reading counts in place of a plain one whose form is no digit's
CERTAIN = 0.9  # up to which a plain reading counts where there is no other, whatever its form
SINGLE = 1.7  # up to which each of several figures is a digit
GAIN = 1.25  # times as unlike a digit as another reading must a plain one be to be given up for it

BOLD = 1.1  # of unlikeness, up to which what is as thick as a card is a bold digit
THICK, THICKEST = 0.17, 0.25  # of the longer side, from the innermost pixel to the edge; no digit has more
CRISP, CRISPER = 0.7, 0.85  # of its pixels that are full ink; in what is softer, light and shade flow into each other
FULL_INK = 178  # of 255; more is full

ON_PAPER, ON_A_CARD = 0.06, 0.2  # of the light that a stroke takes at least
BROAD, NARROW = 4, 9  # parts of the picture's side: windows in which the paper around a stroke is looked for
DOUBT = 1.15  # times as unlike a digit counts a reading by the narrow window, which may cut into bold strokes
WIDEST = 0.5  # of the window that a stroke is wide at most
BESIDE = 0.05  # of its ink that lies beside a digit which is alone
WITHIN = 0.8  # of its ink that a reading shares with the plain one, unless that is given up
LEFT_OUT = 0.03  # of the plain reading's ink that another one lacks at least


class Reading(NamedTuple):
    """glyph: (28, 28). odd: how many times as unlike a digit it counts. several: the figures that stand side by side.

    box: where it is; None if that is not told.
    """

    glyph: Uint8
    odd: float
    several: list[Uint8]
    box: Box | None = None


class Doubts(NamedTuple):
    """What speaks against a plain reading.

    odd: how many times as unlike a digit it counts. is_given_up: it is no digit, whatever it is like. is_thick: it may
    be a card. parts: how many components it has.
    """

    odd: float
    is_given_up: bool
    is_thick: bool
    parts: int


def set_like_mnist(grey: Uint8) -> Uint8:
    """(h, w) uint8 of either polarity -> (28, 28) uint8, light on dark.

    PictureError `blank` without ink, `several_digits`, and `unclear` where no reading looks like a digit.
    """
    if max(grey.shape) > SMALL_SIDE and (glyph := glyph_alone(grey)) is not None:
        return glyph
    found = find_ink(grey)
    plain = glyph_of(found.ink)
    side = max(found.digit.mask.shape)
    if min(side, max(grey.shape)) < COARSE:  # what is tiny was enlarged
        return plain
    score = float(unlikeness(plain[None])[0])
    doubts = doubts_about(found, score)
    if doubts.parts == 1 and ((doubts.odd == 1 and score <= LIKELY) or (side < LARGE and score <= CERTAIN)):
        return plain
    if is_small_card(found, doubts):
        with suppress(PictureError):
            return set_like_mnist(part_of(found, found.box, margin=0.25))
    if doubts.is_given_up or (side >= LARGE and (doubts.odd > 1 or doubts.parts > 1)):
        reading = best_of(list(on_cards(grey)), score, doubts)
        if reading is not None:
            return reading.glyph
    reading = best_of(list(beside_things(found, doubts)), score, doubts)
    if reading is not None:
        return in_detail(found, reading)
    if doubts.is_given_up and score > CERTAIN:
        raise PictureError(
            "unclear",
            "It cannot be told which part of the picture is the digit. Cut it out, or send a picture without lines, "
            "shadows and other figures.",
        )
    return plain


def glyph_alone(grey: Uint8) -> Uint8 | None:
    """The glyph of a picture with a digit and nothing else, made small; None where it may have something else."""
    try:
        found = find_ink(grey, SMALL_SIDE, SMALL_DETAIL)
    except PictureError:
        return None
    if found.digit.parts > 1 or max(found.digit.mask.shape) < COARSE or not is_alone(found):
        return None
    glyph = glyph_of(found.ink)
    score = float(unlikeness(glyph[None])[0])
    return glyph if score <= CLEARLY and doubts_about(found, score).odd == 1 else None


def is_alone(found: Found) -> bool:
    """Whether there is no ink beside a plain reading, however faint, as lines are; nor does it go on outside."""
    if touches(found.box, found.levels.shape):
        return False
    drawn = (found.levels > EDGE).view(np.uint8)
    near = cv2.countNonZero(drawn[found.box.grown(2, drawn.shape).slices])
    return cv2.countNonZero(drawn) - near <= BESIDE * near


def doubts_about(found: Found, score: float) -> Doubts:
    """What speaks against a plain reading of that unlikeness."""
    mask, box = found.digit.mask, found.box
    large = max(mask.shape) >= LARGE
    is_given_up = is_foreign(mask, box)
    odd = HARD if is_given_up else oddness_of_box(box, mask.shape)
    thick = thickness(mask[box.slices])
    is_thick = thick > THICKEST or (score > BOLD and thick > THICK)
    if is_thick:
        crisp = crispness(found)
        is_given_up |= large and crisp < (CRISPER if thick > THICKEST else CRISP)
        odd = max(odd, SOFT)
    if is_given_up or (odd == SOFT and large and crosses(box, mask.shape)):
        odd = HARD
    return Doubts(odd, is_given_up, is_thick, found.digit.parts)


def crispness(found: Found) -> float:
    """How many of the plain reading's pixels are full ink."""
    return float((found.levels[found.digit.mask] > FULL_INK).mean())


def best_of(readings: list[Reading], score: float, doubts: Doubts) -> Reading | None:
    """The reading that takes the place of a plain one of that unlikeness; None if none does.

    PictureError `several_digits` where one has several figures, each more like a digit than the plain one.
    """
    if not readings:
        return None
    if doubts.is_given_up or not doubts.is_thick:
        for reading in readings:
            if len(reading.several) > 1 and unlikeness(np.stack(reading.several)).max() <= min(SINGLE, score):
                raise PictureError(
                    "several_digits", "There are two digits or more, side by side. Cut the picture, one digit in each."
                )
    scores = unlikeness(np.stack([reading.glyph for reading in readings])).tolist()
    count, best = min(
        (value * reading.odd, place) for place, (value, reading) in enumerate(zip(scores, readings, strict=True))
    )
    is_sole = len(readings[best].several) < 2
    most = UNLIKELY if is_sole and doubts.odd >= HARD and not doubts.is_given_up else LIKELY
    enough = most if doubts.is_given_up else min(most, score * doubts.odd / GAIN)
    return readings[best] if count < enough else None


def on_cards(grey: Uint8) -> Iterator[Reading]:
    """What is written on a card, a note or a sign, wherever one lies."""
    for sheet in sheets(grey):
        window = max(5, max(sheet.shape) // 3)
        ink = local_ink(sheet, window, dark=strokes_are_dark(sheet), least=ON_A_CARD)
        if ink is not None:
            yield from with_and_without_lines(ink, window=window)


def beside_things(found: Found, doubts: Doubts) -> Iterator[Reading]:
    """Other ways to read the picture in which the plain reading was found."""
    picture = reduced(found.grey, found.factor)
    longer = max(picture.shape)
    plain = None if doubts.is_given_up else found.digit.mask
    yield from with_and_without_lines(found.levels, 1.0 if plain is not None else SOFT, plain=plain)
    if longer < LARGE and plain is not None:
        return
    dark = strokes_are_dark(picture)
    darkest = darkest_ink(picture, dark=dark) if longer >= LARGE else None
    if darkest is not None:
        yield from with_and_without_lines(darkest, plain=plain)
    for share, odd in ((BROAD, 1.0), (NARROW, DOUBT)) if longer >= LARGE and doubts.odd >= HARD else ((BROAD, 1.0),):
        window = max(5, longer // share)
        ink = local_ink(picture, window, dark=dark, least=ON_PAPER)
        if ink is not None:
            yield from with_and_without_lines(ink, odd, window=window, plain=plain)


def with_and_without_lines(
    ink: Uint8, odd: float = 1.0, *, window: int | None = None, plain: Bool | None = None
) -> Iterator[Reading]:
    """The digit in an ink map, and in the same without its lines."""
    for each in (ink, without_lines(ink)):
        reading = None if each is None else read(each, odd, window, plain)
        if reading is not None:
            yield reading


def read(ink: Uint8, odd: float, window: int | None, plain: Bool | None) -> Reading | None:
    """The digit among the components of an ink map; None where there is none, or the plain one again."""
    components = find_components(ink > FAINT)
    digit, several = figures(components)
    if not digit:
        return None
    mask, box = components.mask_of(digit), around([each.box for each in digit])
    if window is not None and stroke_width(mask[box.slices]) > WIDEST * window:
        return None
    if plain is not None and not is_part(mask, plain):
        return None
    glyph = glyph_in(ink, mask, box)
    if glyph is None:
        return None
    others = [glyph_in(ink, components.mask_of(figure), around([each.box for each in figure])) for figure in several]
    return Reading(glyph, odd * oddness(mask, box), [each for each in others if each is not None], box)


def is_part(mask: Bool, plain: Bool) -> bool:
    """Whether a reading is a part of the plain one, and lacks enough of it to be another."""
    if np.count_nonzero(plain & mask) < WITHIN * np.count_nonzero(mask):
        return False
    return bool(np.count_nonzero(plain & ~widened(mask, 2)) >= LEFT_OUT * np.count_nonzero(plain))


def glyph_in(ink: Uint8, mask: Bool, box: Box) -> Uint8 | None:
    """The glyph of what a mask holds; None where that is too small to be one."""
    if box.longer < max(6, max(mask.shape) // 16):
        return None
    kept = cut_out(ink, mask, box, reach=2)
    return glyph_of(kept) if (kept > HALF).any() else None


def in_detail(found: Found, reading: Reading) -> Uint8:
    """The glyph of a reading; read again where it is, if the picture was made so much smaller that it lost detail."""
    if reading.box is None or found.factor == 1 or reading.box.longer >= DETAIL:
        return reading.glyph
    with suppress(PictureError):
        return set_like_mnist(part_of(found, reading.box, margin=0.125))
    return reading.glyph


def part_of(found: Found, box: Box, *, margin: float) -> Uint8:
    """A part of the picture in its full size. margin: as a share of the box's longer side."""
    wide = box.grown(2 + round(margin * box.longer), found.digit.mask.shape)
    return found.grey[wide.scaled(found.factor).slices]


def is_small_card(found: Found, doubts: Doubts) -> bool:
    """Whether the plain reading is a card, alone in a picture that is much larger."""
    mask, box = found.digit.mask, found.box
    is_alone = doubts.parts == 1 and 4 * box.height * box.width < mask.size
    return is_alone and is_block(mask[box.slices]) and crispness(found) >= CRISP
