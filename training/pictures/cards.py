"""Cards, notes, labels and signs: where in a picture something may be written on, and what it looks like laid level.

It must not know what is written there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from training.arrays import Bool, Uint8
from training.pictures.components import Box, find_components
from training.pictures.forms import inside_of, outline_of
from training.pictures.inks import light_of, square
from training.pictures.normalise import factor_of, reduced

LEAST = 0.08  # of the picture that a card has
CONVEX = 0.9  # of its convex hull that it fills, with what is written on it
PAPER = 0.6  # of its convex hull that it fills without that
SHARP = 0.5  # of the step from a card to what it lies on that is made in five pixels; light falls off more slowly
CUT = 0.3  # of a side of the picture that a card lies along at most, if it lies along two
SQUARE = 0.9  # of the smallest turned box around it that a card with edges fills
LEVEL = 3.0  # degrees; less is not turned back
ON_A_CORNER = 40.0  # degrees from which on either edge may be the level one


class Card(NamedTuple):
    """Where it is, (h, w) uint8 of the box what is inside, and the degrees that its edges are turned, in -45..45."""

    box: Box
    inside: Uint8
    turn: float


def sheets(grey: Uint8) -> Iterator[Uint8]:
    """(h, w) -> each card alone, without its rim, its edges level; in two ways if it stands on a corner."""
    factor = factor_of(grey.shape)
    for card in find_cards(reduced(grey, factor)):
        part = grey[card.box.scaled(factor).slices]
        part = reduced(part, factor_of(part.shape))
        inside = cv2.resize(card.inside, part.shape[::-1], interpolation=cv2.INTER_NEAREST)
        rim = square(2 * (2 + max(part.shape) // 40))
        core = cv2.erode(inside, rim, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
        if core.any():
            paper = round(float(np.median(part[core])))
            yield from levelled(np.where(core, part, np.uint8(paper)), card.turn, paper)


def levelled(sheet: Uint8, turn: float, paper: int) -> Iterator[Uint8]:
    """The sheet turned back, in two ways if either edge may be the level one."""
    if abs(turn) < LEVEL:
        yield sheet
        return
    height, width = sheet.shape
    other = turn - 90 if turn > 0 else turn + 90
    for angle in (turn, other) if abs(turn) > ON_A_CORNER else (turn,):
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        turned = cv2.warpAffine(sheet, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=paper)
        yield turned.astype(np.uint8, copy=False)


def find_cards(picture: Uint8) -> Iterator[Card]:
    """The large convex areas with a sharp edge that are lighter or darker than what they lie on."""
    light = light_of(picture)
    steep = cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, square(5))
    contrast = abs(float(picture[light].mean()) - float(picture[~light].mean())) if light.any() else 0.0
    for mask in (light, ~light):
        components = find_components(mask)
        for component in components.largest(2):
            box = component.box
            of_it = components.labels[box.slices] == component.label
            if component.pixels < LEAST * mask.size or is_cut_off(of_it, box, mask.shape):
                continue
            hull = cv2.convexHull(outline_of(of_it))
            inside = np.zeros(of_it.shape, np.uint8)
            cv2.fillConvexPoly(inside, hull, 1)
            area = np.count_nonzero(inside)
            if np.count_nonzero(inside_of(of_it)) < CONVEX * area or component.pixels < PAPER * area:
                continue
            rim = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, square(3)) > 0
            if not rim.any() or float(steep[box.slices][rim].mean()) < SHARP * contrast:
                continue
            _, (one, other), angle = cv2.minAreaRect(hull)
            has_edges = area >= SQUARE * (one + 1) * (other + 1)
            yield Card(box, inside, (angle + 45) % 90 - 45 if has_edges else 0.0)


def is_cut_off(of_it: Bool, box: Box, shape: tuple[int, ...]) -> bool:
    """Whether it lies along two sides of the picture or more, and far along one: so does a shadow."""
    sides = (
        (box.top <= 0, of_it[0]),
        (box.left <= 0, of_it[:, 0]),
        (box.bottom >= shape[0], of_it[-1]),
        (box.right >= shape[1], of_it[:, -1]),
    )
    along = [float(pixels.mean()) for reaches, pixels in sides if reaches]
    return len(along) > 1 and max(along) > CUT
