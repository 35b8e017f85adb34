"""Where in a mask the digit is: its connected components, without the frame around it and the dirt beside it.

It knows masks alone, not grey levels. Two pixels are connected when they touch, corners included.
"""

from dataclasses import astuple, dataclass

import cv2
import numpy as np

from training.arrays import Bool, Int32, Int64

cv2.setNumThreads(1)  # there is a decoding process for each core

DIRT = 0.02  # a component smaller than this share of all ink is dirt
RIM = 0.12  # a frame's pixels lie within this share of its box's shorter side
STROKE = 0.2  # beside a frame or a line, a component this share of its side is ink of its own


@dataclass(frozen=True)
class Box:
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


@dataclass(frozen=True)
class Sheet:
    """A sheet that is lighter or darker than what it lies on. What is written on it is inside the box."""

    box: Box


@dataclass(frozen=True)
class DigitMask:
    """(h, w) of the whole mask, True in the components that belong to the digit; there may be none. And these."""

    mask: Bool
    components: list["Component"]

    @property
    def box(self) -> Box:
        """Where the digit is. There must be a component."""
        return bounds(self.mask)


def locate(mask: Bool) -> Sheet | DigitMask:
    """(h, w), True where there is ink, somewhere at least -> the sheet that holds the digit, or the digit itself."""
    labels, components = find_components(mask)
    sheet = find_sheet(labels, components)
    return DigitMask(*digit_of(labels, components)) if sheet is None else Sheet(sheet)


def bounds(mask: Bool) -> Box:
    """The box of what is set; there must be something."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def edges_of(picture: Bool) -> Bool:
    """The outermost ring of pixels, as one line."""
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])


@dataclass(frozen=True)
class Component:
    """One connected component: its label in the map of labels, how many pixels it has, where it lies."""

    label: int
    pixels: int
    box: Box


def find_components(mask: Bool) -> tuple[Int32, list[Component]]:
    """(h, w) -> (h, w) labels, 0 where nothing is set, and the components in reading order, the first labelled 1.

    By OpenCV, whose import costs a decoding process 17 MB and 0.03 s of CPU; SciPy's costs 27 MB and 0.20 s.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    found = [
        Component(label, pixels, Box(top, left, top + height, left + width))
        for label, (left, top, width, height, pixels) in enumerate(boxes.tolist())
    ]
    return labels.astype(np.int32, copy=False), found[1:]


def find_sheet(labels: Int32, components: list[Component]) -> Box | None:
    """Where a sheet with holes lies: light paper on a dark table, or the paper inside a thick border.

    What is written on it are its holes; a digit never fills its box's corners and edges like that.
    """
    largest = max(components, key=lambda component: component.pixels)
    box = largest.box
    inside = labels[box.slices] == largest.label
    fill = largest.pixels / inside.size
    is_sheet = (
        0.62 <= fill <= 0.97
        and box.longer <= 2.5 * min(box.height, box.width)
        and edges_of(inside).mean() >= 0.9
        and (box.height, box.width) != labels.shape
    )
    return box if is_sheet else None


def digit_of(labels: Int32, components: list[Component]) -> tuple[Bool, list[Component]]:
    """The components that belong to the digit, as (h, w) and listed; not a frame, a line at the edge, or dirt."""
    boxes = np.array([(*astuple(component.box), component.box.longer) for component in components])
    drawn = [component for component in components if not is_frame(component, boxes, labels)]
    least = DIRT * sum(component.pixels for component in drawn)
    keep = np.zeros(len(components) + 1, bool)
    kept = [component for component in drawn if component.pixels >= least]
    keep[[component.label for component in kept]] = True
    return keep[labels], kept


def is_frame(component: Component, boxes: Int64, labels: Int32) -> bool:
    """Whether a component is a box around other ink, or a line along the picture's edge beside other ink.

    boxes: (n, 5), of every component in order: its bounds and its longer side. The cheap questions come first: a
    dithered scan has ten thousand components.
    """
    height, width = labels.shape
    box = component.box
    if (box.width >= 0.95 * width or box.height >= 0.95 * height) and hugs(labels, component, Box(0, 0, height, width)):
        return others_as_long(component, boxes, STROKE * max(height, width))
    if not hugs(labels, component, box):
        return False
    corners = boxes[:, :4] * (1, 1, -1, -1)
    inside: Bool = np.all(corners >= (box.top, box.left, -box.bottom, -box.right), axis=1)
    return others_as_long(component, boxes, STROKE * box.longer, among=inside)


def others_as_long(component: Component, boxes: Int64, least: float, among: Bool | None = None) -> bool:
    """Whether there is a component beside this one whose longer side has `least` pixels. among: (n,), or all."""
    long = boxes[:, 4] >= least
    if among is not None:
        long &= among
    return bool(np.count_nonzero(long) > long[component.label - 1])


def hugs(labels: Int32, component: Component, box: Box) -> bool:
    """Whether nearly all of a component lies along the edges of `box`."""
    rim = max(2, round(RIM * min(box.height, box.width)))
    inner = Box(box.top + rim, box.left + rim, box.bottom - rim, box.right - rim)
    if inner.height <= 0 or inner.width <= 0:
        return False
    inside = int(np.count_nonzero(labels[inner.slices] == component.label))
    return inside <= 0.1 * component.pixels
