"""Connected spots in a mask, and which of them belong to the digit: not the frame, not the dirt.

It knows masks alone. Two pixels are connected when they touch, corners included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

DUST = 0.02  # a spot smaller than this share of all ink is dirt
RIM = 0.12  # a frame's pixels lie within this share of its box's shorter side
STROKE = 0.2  # beside a frame or a line, a spot this share of its side is ink of its own


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

    def grown(self, by: int, shape: tuple[int, int]) -> "Box":
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
class Component:
    """One connected spot: its label in the map, how many pixels it has, where it lies."""

    label: int
    pixels: int
    box: Box


def find_components(mask: Mask) -> tuple[Ints, list[Component]]:
    """(h, w) bool -> (h, w) labels, 0 where there is none, and the spots, the first labelled 1."""
    rows, starts, ends = runs_of(mask)
    roots = joined(rows, starts, ends, stride=mask.shape[1] + 2)
    _, names = np.unique(roots, return_inverse=True)
    count = int(names.max(initial=-1)) + 1
    top, left = np.full(count, mask.shape[0]), np.full(count, mask.shape[1])
    bottom, right = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.minimum.at(top, names, rows)
    np.minimum.at(left, names, starts)
    np.maximum.at(bottom, names, rows + 1)
    np.maximum.at(right, names, ends)
    pixels = np.bincount(names, ends - starts, count).astype(np.int64)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(names + 1, ends - starts)
    boxes = zip(top.tolist(), left.tolist(), bottom.tolist(), right.tolist(), strict=True)
    return labels, [Component(i + 1, int(pixels[i]), Box(*bounds)) for i, bounds in enumerate(boxes)]


def digit_of(labels: Ints, spots: list[Component]) -> Mask:
    """(h, w) labels -> (h, w) bool: the spots that belong to the digit, none of a frame, a cut line or dirt."""
    drawn = [spot for spot in spots if not is_frame(spot, spots, labels)]
    least = DUST * sum(spot.pixels for spot in drawn)
    keep = np.zeros(len(spots) + 1, bool)
    keep[[spot.label for spot in drawn if spot.pixels >= least]] = True
    return keep[labels]


def find_sheet(labels: Ints, spots: list[Component]) -> Box | None:
    """Where a sheet with holes lies: a light card on a dark table, or the paper inside a thick border.

    What is written on it are its holes; a digit never fills its box's corners and edges like that.
    """
    largest = max(spots, key=lambda spot: spot.pixels)
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


def runs_of(mask: Mask) -> tuple[Ints, Ints, Ints]:
    """The rows, starts and ends (half-open) of all horizontal runs, in reading order."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    rows, starts = np.nonzero(step == 1)
    _, ends = np.nonzero(step == -1)
    return rows, starts, ends


def joined(rows: Ints, starts: Ints, ends: Ints, stride: int) -> Ints:
    """The first run of each run's spot: touching runs of neighbouring rows, united until nothing changes."""
    first, last = rows * stride + starts, rows * stride + ends
    # A run touches those of the next row that end at or after its start and start at or before its end.
    low = np.searchsorted(last, first + stride, side="left")
    high = np.searchsorted(first, last + stride, side="right")
    touching = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(rows)), touching)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(touching) - touching, touching) + low[upper]
    roots = np.arange(len(rows))
    while True:
        one, other = roots[upper], roots[lower]
        smaller = np.minimum(one, other)
        if np.array_equal(one, other):
            return roots
        np.minimum.at(roots, one, smaller)
        np.minimum.at(roots, other, smaller)
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]


def is_frame(spot: Component, spots: list[Component], labels: Ints) -> bool:
    """Whether a spot is a box around other ink, or a line along the picture's edge beside other ink."""
    height, width = labels.shape
    box = spot.box
    others = [other for other in spots if other is not spot]
    spans = box.width >= 0.95 * width or box.height >= 0.95 * height
    if spans and hugs(labels, spot, Box(0, 0, height, width)):
        return any(other.box.longer >= STROKE * max(height, width) for other in others)
    within = [other for other in others if box.holds(other.box)]
    return any(other.box.longer >= STROKE * box.longer for other in within) and hugs(labels, spot, box)


def hugs(labels: Ints, spot: Component, box: Box) -> bool:
    """Whether nearly all of a spot lies along the edges of `box`."""
    rim = max(2, round(RIM * min(box.height, box.width)))
    inner = Box(box.top + rim, box.left + rim, box.bottom - rim, box.right - rim)
    if inner.height <= 0 or inner.width <= 0:
        return False
    inside = int(np.count_nonzero(labels[inner.slices] == spot.label))
    return inside <= 0.1 * spot.pixels


def edges_of(picture: Mask) -> Mask:
    """The outermost ring of pixels, as one line."""
    return np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
