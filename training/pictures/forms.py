"""What the form of a mask says: whether it can be a digit, or is a line, a hole, a card, a shadow.

It knows masks alone, not grey levels.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.arrays import AnyArray, Bool
from training.pictures.components import Box, Component

SOFT = 1.5  # times as unlike a digit counts what seldom has a digit's form
HARD = 3.0  # times as unlike counts what has no digit's form

WIDE, WIDEST = 1.3, 1.7  # of its height
TIGHT = 0.9  # of the picture's height and width: it is cut out along its digit
SLIM = 0.55  # of its height: a picture cut out along a 1
CUT = 1.6  # sides of the picture that a digit lies along at most
CORNER = 0.3  # of a side, and of the next: what lies along both so far is in a corner
SOLID = 0.88  # of its convex hull that a block fills; bold digits fill less
ROUND = 0.68, 0.92  # of its box that a disc fills; a circle fills pi / 4
SLENDER = 5  # times as long as wide: a bar
STRAIGHT = 0.6  # of its box, turned as it lies, that a bar fills


def oddness(mask: Bool, box: Box) -> float:
    """How many times as unlike a digit it counts: foreign, or wide, or at the picture's edge. 1 for most.

    box: where the mask is set, here and below.
    """
    return HARD if is_foreign(mask, box) else oddness_of_box(box, mask.shape)


def oddness_of_box(box: Box, shape: tuple[int, ...]) -> float:
    """The same of what is not foreign."""
    if box.width > WIDEST * box.height:
        return HARD
    is_cut = touches(box, shape) and not is_tight(box, shape)
    return SOFT if is_cut or box.width > WIDE * box.height else 1.0


def touches(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether it reaches the picture's edge."""
    return box.top <= 0 or box.left <= 0 or box.bottom >= shape[0] or box.right >= shape[1]


def is_foreign(mask: Bool, box: Box) -> bool:
    """Whether it is no digit: a block, or cut off by the picture's edges as a shadow or a desk is."""
    return (touches(box, mask.shape) and is_cut_off(mask, box)) or is_block(mask[box.slices])


def is_cut_off(mask: Bool, box: Box) -> bool:
    """Whether it lies along the picture's edges."""
    height, width = mask.shape
    top = share_of(mask[0]) if box.top <= 0 else 0.0
    bottom = share_of(mask[-1]) if box.bottom >= height else 0.0
    left = share_of(mask[:, 0]) if box.left <= 0 else 0.0
    right = share_of(mask[:, -1]) if box.right >= width else 0.0
    corner = min(max(top, bottom), max(left, right))
    tight = is_tight(box, mask.shape)
    is_cut = top + bottom + left + right > CUT or (corner > CORNER and not tight)
    return is_cut and not (tight and width < SLIM * height)


def share_of(line: Bool) -> float:
    return np.count_nonzero(line) / line.size


def is_tight(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether the picture is cut out along it."""
    height, width = shape
    return box.height >= TIGHT * height and box.width >= TIGHT * width


def crosses(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether it goes from one side of the picture to the opposite one, as a band of shadow does."""
    height, width = shape
    return (box.top <= 0 and box.bottom >= height) or (box.left <= 0 and box.right >= width)


def is_block(mask: Bool) -> bool:
    """Whether a mask is a solid block, as a card or a shadow is, and no stroke."""
    hull = cv2.convexHull(outline_of(mask))
    whole = cv2.contourArea(hull) + cv2.arcLength(hull, closed=True) / 2 + 1
    if int(np.count_nonzero(mask)) <= SOLID * whole:
        return False
    _, sides, _ = cv2.minAreaRect(hull)
    return min(sides) > max(sides) / 2


def thickness(mask: Bool) -> float:
    """How far its innermost pixel lies from its edge, as a share of its longer side: 0.1 in a stroke, 0.2 in a card."""
    paper = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.distanceTransform(paper, cv2.DIST_L2, cv2.DIST_MASK_3)
    return float(inner.max()) / float(max(mask.shape))


def is_bar(mask: Bool) -> bool:
    """Whether a component is a straight bar that lies more level than upright."""
    _, (one, other), angle = cv2.minAreaRect(outline_of(mask))
    long, thick = max(one, other) + 1, min(one, other) + 1
    lies = angle if one >= other else angle - 90
    is_level = abs((lies + 90) % 180 - 90) <= 45
    return is_level and long >= SLENDER * thick and int(np.count_nonzero(mask)) >= STRAIGHT * long * thick


def is_disc(component: Component) -> bool:
    """Whether a component is a round blob without a hole, as a punched hole is."""
    box = component.box
    is_round = ROUND[0] <= component.pixels / (box.height * box.width) <= ROUND[1]
    return is_round and box.longer <= 1.35 * min(box.height, box.width)


def inside_of(mask: Bool) -> Bool:
    """(h, w): the mask with its holes filled."""
    outlines, _ = cv2.findContours(np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled.view(np.bool_)


def outline_of(mask: Bool) -> AnyArray:
    """(n, 1, 2) int32: x and y of the corners of what goes around a mask."""
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return outlines[0] if len(outlines) == 1 else np.concatenate(outlines)
