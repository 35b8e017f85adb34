"""How much ink is where, seen in other ways than `normalise` does: for shadows, for printed lines, for cards.

Each function makes one map of a picture; `reading` decides what to make of it.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from training.arrays import AnyArray, Bool, Uint8
from training.pictures.levels import FULL, LEVELS, Counts, counted, divided, scaled, share_of_stroke
from training.pictures.normalise import FAINT

DIM = np.uint8(32)  # grey levels of paper, below which a stroke's share of the light is not told
PALE = 128  # grey levels, of which light strokes are a share
STEP = 40.0  # grey levels between a pen and the darkest paper
LINE = 0.35  # of the picture's side that a printed line has at least
LINE_WIDTH = 0.022  # of the picture's side that it is thick at most
DARKER = 64  # of 255 that a stroke on a line is darker than the line


def light_of(grey: Uint8) -> Bool:
    """(h, w) -> (h, w): the lighter pixels, by Otsu's threshold (1979)."""
    return divided(grey)[1] > 0


def strokes_are_dark(grey: Uint8) -> bool:
    """Whether what is thin is darker than what is around it, more often than lighter."""
    window = square(max(5, max(grey.shape) // 12))
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, window)
    light = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, window)
    return float(cv2.sumElems(dark)[0]) >= float(cv2.sumElems(light)[0])


def local_ink(grey: Uint8, window: int, *, dark: bool, least: float) -> Uint8 | None:
    """(h, w) -> (h, w): the ink by the paper around each pixel; None where it takes less than `least` of its light.

    The paper is what is left when all that is narrower than `window` is filled (a morphological closing), so the edge
    of a shadow is paper on both sides.
    """
    level = grey if dark else ~grey
    around = cv2.morphologyEx(level, cv2.MORPH_CLOSE, square(window))
    taken, whole = cast(Uint8, cv2.subtract(around, level)), PALE
    if dark:
        taken, whole = cast(Uint8, cv2.divide(taken, np.maximum(around, DIM), scale=255)), 255
    counts = counted(taken)
    threshold, _ = divided(taken)
    if not counts.share_above(threshold):
        return None
    stroke = counts.percentile(FULL, above=threshold)
    if stroke <= least * whole:
        return None
    return share_of_stroke(taken, 0.0, counts, threshold, stroke)


def darkest_ink(grey: Uint8, *, dark: bool) -> Uint8 | None:
    """(h, w) -> (h, w): what is darker than the darker half (or lighter); None where that has one level only.

    A pen is darker than shadows, half-tones and rules.
    """
    level = grey if dark else ~grey
    threshold, _ = divided(level)
    split, _ = divided(level[level <= threshold][None])
    darker = counted(level).of_each[: threshold + 1]
    lighter, darkest = darker[split + 1 :], np.pad(darker[: split + 1], (0, 255 - split))
    if not lighter.any():
        return None
    paper = float(lighter @ LEVELS[split + 1 : len(darker)] / lighter.sum())
    pen = Counts.of(darkest).percentile(0.5)
    if paper - pen < STEP:
        return None
    factor = 255 / (paper - pen)
    return scaled(level, -factor, factor * paper)


def without_lines(ink: Uint8) -> Uint8 | None:
    """(h, w) ink without long thin lines, level or upright, the strokes that cross them kept; None without a line."""
    level = _without_rows(ink)
    upright = _without_rows(np.ascontiguousarray((ink if level is None else level).T))
    return level if upright is None else np.ascontiguousarray(upright.T)


def _without_rows(ink: Uint8) -> Uint8 | None:
    drawn = (ink > FAINT).view(np.uint8)
    height, width = ink.shape
    shortest = max(3, round(LINE * width))
    if int(cv2.reduce(drawn, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).max()) < shortest:
        return None
    long = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, np.ones((1, shortest), np.uint8))
    most = max(2, round(LINE_WIDTH * height))
    thick = cv2.morphologyEx(long, cv2.MORPH_OPEN, column(most + 1))
    line = long.view(np.bool_) & ~grown(thick, column(2 * most + 1))
    if not line.any():
        return None
    near = grown(line, column(3))  # its soft edges
    wide = grown(drawn.view(np.bool_) & ~near, np.ones((1, 3), np.uint8))
    reach = most + 2
    up, down = np.zeros((2, 2 * reach + 1, 1), np.uint8)
    up[: reach + 1], down[reach:] = 1, 1
    crossing = grown(wide, up) & grown(wide, down)
    darker = ink > float(np.median(ink[line])) + DARKER
    return np.where(near & ~crossing & ~darker, np.uint8(0), ink)


def grown(mask: AnyArray, by: Uint8) -> Bool:
    """(h, w) bool, or 0 and 1 -> the same with all that `by` reaches from what is set."""
    return cv2.dilate(mask.view(np.uint8), by).view(np.bool_)


def square(side: int) -> Uint8:
    side |= 1  # it has a middle
    return np.ones((side, side), np.uint8)


def column(height: int) -> Uint8:
    return np.ones((height, 1), np.uint8)
