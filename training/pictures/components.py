"""Where in a mask the digit is: its connected components, without the frame around it and the dirt beside it.

It knows masks alone, not grey levels. Two pixels are connected when they touch, corners included.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, cast

import cv2
import numpy as np

from training.arrays import AnyArray, Bool, Int32, Uint8

cv2.setNumThreads(1)  # there is a decoding process for each core

DIRT = 0.02  # a component smaller than this share of all ink is dirt
RIM = 0.12  # a frame's pixels lie within this share of its box's shorter side
STROKE = 0.2  # beside a frame or a line, a component this share of its side is ink of its own
FEW = 4  # components that are faster compared one by one than looked up


class Box(NamedTuple):
    """Half-open pixel bounds."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def longer(self) -> int:
        return max(self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, by: int, shape: tuple[int, ...]) -> "Box":
        """This box with a margin of `by` pixels, inside a picture of `shape`."""
        return Box(
            max(0, self.top - by),
            max(0, self.left - by),
            min(shape[0], self.bottom + by),
            min(shape[1], self.right + by),
        )

    def scaled(self, factor: int) -> "Box":
        """The same place in a picture `factor` times as large."""
        return Box(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)

    def holds(self, other: "Box") -> bool:
        """Whether `other` lies inside."""
        return (
            self.top <= other.top
            and self.left <= other.left
            and self.bottom >= other.bottom
            and self.right >= other.right
        )


class Sheet(NamedTuple):
    """A sheet that is lighter or darker than what it lies on. What is written on it is inside the box."""

    box: Box


class DigitMask(NamedTuple):
    """(h, w) of the whole mask, True in the components that belong to the digit; how many they are, and their box.

    There may be none, and no box.
    """

    mask: Bool
    parts: int
    box: Box | None


class Component(NamedTuple):
    """One connected component: its label in the map of labels, how many pixels it has, where it lies."""

    label: int
    pixels: int
    box: Box


class Components(NamedTuple):
    """labels: (h, w), 0 where nothing is set, the components from 1 on. stats: (n, 5) int32, of each in that order:
    its left and top, width and height, and how many pixels it has.

    A dithered scan has ten thousand: only those that are looked at become a `Component`.
    """

    labels: AnyArray
    stats: Int32

    @property
    def pixels(self) -> int:
        """Of all together."""
        return int(self.stats[:, 4].sum())

    def by_size(self) -> Iterator[Component]:
        """The one with the most pixels first."""
        return map(self.component, np.argsort(-self.stats[:, 4], kind="stable").tolist())

    def largest(self, most: int) -> list[Component]:
        """At most so many, the one with the most pixels first."""
        if len(self.stats) == 1:
            return [self.component(0)]
        return list(islice(self.by_size(), most))

    def component(self, place: int) -> Component:
        left, top, width, height, pixels = self.stats[place].tolist()
        return Component(place + 1, pixels, Box(top, left, top + height, left + width))

    def mask_of(self, some: list[Component]) -> Bool:
        """(h, w): True in these."""
        if len(some) > FEW:
            keep = np.zeros(len(self.stats) + 1, bool)
            keep[[component.label for component in some]] = True
            return cast(Bool, keep[self.labels])
        mask = np.zeros(self.labels.shape, bool)
        for component in some:
            mask[component.box.slices] |= self.labels[component.box.slices] == component.label
        return mask


def locate(mask: Bool) -> Sheet | DigitMask:
    """(h, w), True where there is ink, somewhere at least -> the sheet that holds the digit, or the digit itself."""
    components = find_components(mask)
    (largest,) = components.largest(1)
    if is_sheet(largest, components.labels):
        return Sheet(largest.box)
    if len(components.stats) == 1:  # there is nothing that it could be a frame around
        return DigitMask(mask, 1, largest.box)
    kept = digit_of(components)
    return DigitMask(components.mask_of(kept), len(kept), around([each.box for each in kept]) if kept else None)


def bounds(mask: Bool | Uint8) -> Box:
    """The box of what is set; an empty one of nothing."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return Box(top, left, top + height, left + width)


def around(boxes: list[Box]) -> Box:
    """The box around all of some."""
    return Box(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )


def find_components(mask: Bool) -> Components:
    """(h, w) -> its components.

    By OpenCV, whose import costs a decoding process 17 MB and 0.03 s of CPU; SciPy's costs 27 MB and 0.20 s. Labels of
    16 bits are made in a third of the time; a mask of n pixels has n / 4 components at most, and a row or so.
    """
    box, pixels = bounds(mask), mask.view(np.uint8)
    if not box.longer:
        return Components(np.zeros(mask.shape, np.uint16), np.zeros((0, 5), np.int32))
    ltype = cv2.CV_16U if (box.height + 1) * (box.width + 1) < 4 * 2**16 else cv2.CV_32S
    _, part, stats, _ = cv2.connectedComponentsWithStats(pixels[box.slices], connectivity=8, ltype=ltype)
    stats = cast(Int32, stats[1:])
    stats[:, 0] += box.left
    stats[:, 1] += box.top
    labels = np.zeros(mask.shape, part.dtype)
    labels[box.slices] = part
    return Components(labels, stats)


def is_sheet(component: Component, labels: AnyArray) -> bool:
    """Whether it is a sheet with holes: light paper on a dark table, or the paper inside a thick border.

    What is written on it are its holes; a digit never fills its box's corners and edges like that.
    """
    box = component.box
    fill = component.pixels / (box.height * box.width)
    if not 0.62 <= fill <= 0.97 or (box.height, box.width) == labels.shape:
        return False
    return (
        box.longer <= 2.5 * min(box.height, box.width) and share_of_edges(labels[box.slices] == component.label) >= 0.9
    )


def digit_of(components: Components) -> list[Component]:
    """The components that belong to the digit: not a frame, a line at the edge, or dirt."""
    kept, drawn = [], components.pixels
    for component in components.by_size():
        if component.pixels < DIRT * drawn:
            break
        if is_frame(component, components):
            drawn -= component.pixels
        else:
            kept.append(component)
    return kept


def is_frame(component: Component, components: Components) -> bool:
    """Whether a component is a box around other ink, or a line along the picture's edge beside other ink."""
    height, width = components.labels.shape
    box = component.box
    whole = Box(0, 0, height, width)
    if (box.width >= 0.95 * width or box.height >= 0.95 * height) and hugs(components.labels, component, whole):
        return others_as_long(component, components, STROKE * max(height, width))
    if not hugs(components.labels, component, box):
        return False
    return others_as_long(component, components, STROKE * box.longer, within=box)


def others_as_long(component: Component, components: Components, least: float, within: Box | None = None) -> bool:
    """Whether there is a component beside this one whose longer side has `least` pixels. within: where to look."""
    left, top, width, height, _ = components.stats.T
    long = np.maximum(width, height) >= least
    if within is not None:
        long &= (left >= within.left) & (top >= within.top)
        long &= (left + width <= within.right) & (top + height <= within.bottom)
    return bool(np.count_nonzero(long) > long[component.label - 1])


def hugs(labels: AnyArray, component: Component, box: Box) -> bool:
    """Whether nearly all of a component lies along the edges of `box`."""
    rim = max(2, round(RIM * min(box.height, box.width)))
    inner = Box(box.top + rim, box.left + rim, box.bottom - rim, box.right - rim)
    if inner.height <= 0 or inner.width <= 0:
        return False
    inside = int(np.count_nonzero(labels[inner.slices] == component.label))
    return inside <= 0.1 * component.pixels


def share_of_edges(mask: AnyArray) -> float:
    """(h, w), bool or uint8: of the outermost ring of pixels, how many are set."""
    inner = mask[1:-1, 1:-1]
    edges = np.count_nonzero(mask) - np.count_nonzero(inner)
    return edges / (mask.size - inner.size)
