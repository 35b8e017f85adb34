"""How much ink is at each pixel: paper and ink are divided by one threshold, over light that falls off evenly.

Pictures are looked at as counts of their 256 levels, and made into others by tables of 256 levels: each costs a few
microseconds, whatever is computed of them. It knows grey levels, not what is drawn.
"""

from bisect import bisect_right
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple, cast

import cv2
import numpy as np

from training.arrays import AnyArray, Float32, Float64, Uint8
from training.errors import PictureError
from training.pictures.components import Box, share_of_edges

MIN_CONTRAST = 16.0  # grey levels between paper and ink; the noise of a blank scan stays well below
CLEAR = 0.85  # if paper and ink divide this well, the light need not be searched for a slope
FULL = 0.7  # of the ink's pixels are fainter than a whole stroke
LEAST_RISE = 0.02  # of the contrast that light falls off over the picture before that is taken off
ROOM = 32  # grey levels below those of the paper, for its noise
SAMPLE = 64  # pixels of the side of what a plane is laid through
FEW = 32  # the same where it is laid through several times
LEVELS = np.arange(256, dtype=np.float64)
POWERS = np.stack([LEVELS, LEVELS * LEVELS], axis=1)


class Light(NamedTuple):
    """The plane of the paper's level: `level` in the picture's middle, and what it rises by a pixel."""

    level: float
    down: float
    across: float

    def rise(self, shape: tuple[int, ...]) -> float:
        """Grey levels between the lightest and the darkest corner."""
        return abs(self.down) * (shape[0] - 1) + abs(self.across) * (shape[1] - 1)

    def seen_in(self, box: Box, shape: tuple[int, ...], factor: float) -> "Light":
        """The same over a part of a picture of that shape, `factor` times as large."""
        down = (box.top + box.bottom - shape[0]) / 2
        across = (box.left + box.right - shape[1]) / 2
        level = self.level + self.down * down + self.across * across
        return Light(level, self.down / factor, self.across / factor)

    def over(self, shape: tuple[int, ...]) -> Float32:
        """(h, w) float32, levels."""
        down, across, level = np.float32(self.down), np.float32(self.across), np.float32(self.level)
        rows = down * from_middle(shape[0]) + level
        return cast(Float32, rows[:, None] + across * from_middle(shape[1]))


@lru_cache(maxsize=64)
def from_middle(length: int) -> Float32:
    """(length,): how many pixels each is from the middle. Not to be changed."""
    return np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)


class Counts(NamedTuple):
    """of_each: (256,), how often each level occurs. up_to: it and all below, of each level.

    Single ones are looked up in a list, in a fraction of the time that an array takes.
    """

    of_each: Float64
    up_to: list[float]

    @classmethod
    def of(cls, of_each: Float64) -> "Counts":
        return cls(of_each, of_each.cumsum().tolist())

    @property
    def total(self) -> float:
        return self.up_to[-1]

    def turned_around(self) -> "Counts":
        """Of the negative."""
        return self.of(self.of_each[::-1])

    def percentile(self, share: float, *, above: int = -1) -> float:
        """NumPy's percentile of the levels above one."""
        least = self.up_to[above] if above >= 0 else 0.0
        place = least + share * (self.total - least - 1)
        low, high = bisect_right(self.up_to, floor(place)), bisect_right(self.up_to, ceil(place))
        return low + (high - low) * (place - floor(place))

    def share_above(self, level: int) -> float:
        return 1 - self.up_to[level] / self.total

    def deviation(self, base: float, most: int) -> float:
        """The median of how far the levels up to the `most` are from the base."""
        half = self.up_to[most] / 2
        above = min(max(floor(base) + 1, 0), most + 1)
        below = above - 1  # those between the two were seen, the nearest ones first
        while True:
            is_above = below < 0 or (above <= most and above - base < base - below)
            level = above if is_above else below
            above, below = (above + 1, below) if is_above else (above, below - 1)
            if self.up_to[above - 1] - (self.up_to[below] if below >= 0 else 0.0) >= half:
                return abs(level - base)

    def clearness(self, threshold: int) -> float:
        """How well a threshold divides: the variance between the two classes as a share of all variance.

        Near 1 for two plain greys.
        """
        below, total = self.up_to[threshold], self.total
        mass, squares = (self.of_each @ POWERS).tolist()
        off = float(self.of_each[: threshold + 1] @ LEVELS[: threshold + 1]) * total - below * mass
        between = off * off / max(below * (total - below), 1)
        return float(between / max(total * squares - mass * mass, 1e-6 * total * total))


class Evened(NamedTuple):
    """level: (h, w), its paper darker than its ink, and of the level `base` all over. threshold: the highest of the
    paper's. clearness: how well that divides.

    is_negative: whether the picture's levels were turned around for it. plane: what was then taken off; None where the
    light is even.
    """

    level: Uint8
    base: float
    counts: Counts
    threshold: int
    clearness: float
    is_negative: bool
    plane: Light | None

    def ink(self) -> Uint8:
        """(h, w): how much ink is at each pixel, 0 on the paper, 255 in a stroke. PictureError `blank` without ink."""
        stroke = 0.0
        if self.counts.share_above(self.threshold):
            stroke = self.counts.percentile(FULL, above=self.threshold) - self.base
        if stroke < MIN_CONTRAST:
            raise PictureError(
                "blank",
                f"No ink was found: paper and ink differ by {max(stroke, 0):.0f} of 255 grey levels. "
                "Send a picture in which the digit stands out.",
            )
        return share_of_stroke(self.level, self.base, self.counts, self.threshold, stroke)

    def part(self, grey: Uint8, box: Box, factor: float) -> "Evened":
        """The same of a part of the picture. grey: that part, `factor` times as large. box: where it is in `level`."""
        level = ~grey if self.is_negative else grey
        if self.plane is not None:
            level = levelled(level, self.plane.seen_in(box, self.level.shape, factor), self.base)
        return self._replace(level=level, counts=counted(level))


def even_light(grey: Uint8) -> Evened:
    """(h, w) uint8 of either polarity -> the same under even light."""
    counts = counted(grey)
    threshold, light = divided(grey)
    clearness = counts.clearness(threshold)
    if clearness >= CLEAR:
        return evened(grey, light, counts, threshold, clearness)
    _, even = divided(levelled(grey, slope(grey), 128))
    found = evened(grey, even, counts, threshold, clearness)
    if found.clearness >= CLEAR:
        return found
    return max(evened(grey, light, counts, threshold, clearness), found, key=distance)


def evened(grey: Uint8, light: Uint8, counts: Counts, threshold: int, clearness: float) -> Evened:
    """The picture by one division into light and dark, its light evened out by the part that is paper.

    counts, threshold, clearness: of `grey`.
    """
    # The edge may be a frame, and a bold digit may cover most of the picture: the whole counts twice, the edge once.
    is_negative = 2 * cv2.countNonZero(light) / light.size + share_of_edges(light) > 1.5
    level, paper = grey, light
    if is_negative:
        level, counts, threshold = ~grey, counts.turned_around(), 254 - threshold
    else:
        paper = ~light
    plane = plane_of(level, paper)
    contrast = counts.percentile(0.5, above=threshold) - plane.level
    if plane.rise(level.shape) < LEAST_RISE * contrast:
        return Evened(level, plane.level, counts, threshold, clearness, is_negative, None)
    level = levelled(level, plane, ROOM)
    counts = counted(level)
    threshold, _ = divided(level)
    return Evened(level, ROOM, counts, threshold, counts.clearness(threshold), is_negative, plane)


def distance(found: Evened) -> float:
    """How many of their standard deviations paper and ink are apart, squared: 7 in noise that is cut in its middle."""
    ink = found.counts.share_above(found.threshold)
    return found.clearness / max((1 - found.clearness) * ink * (1 - ink), 1e-9)


def share_of_stroke(level: Uint8, base: float, counts: Counts, threshold: int, stroke: float) -> Uint8:
    """(h, w) levels -> (h, w): 0 up to the noise of the paper, 255 where they are a whole `stroke` above the `base`.

    counts: how often each level occurs; those up to the threshold are paper.
    """
    noise = 1.5 * counts.deviation(base, threshold)  # a standard deviation, by the median
    least = min(3 * noise, stroke / 4)
    factor = 255 / (stroke - least)
    return scaled(level, factor, -factor * (base + least))


def counted(grey: Uint8) -> Counts:
    """How often each level occurs."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])
    return Counts.of(counts.reshape(-1).astype(np.float64))


def divided(grey: Uint8) -> tuple[int, Uint8]:
    """Otsu's threshold (1979), the highest level of the darker pixels; and (h, w), 255 in the lighter ones, else 0."""
    threshold, light = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return int(threshold), cast(Uint8, light)


def scaled(level: Uint8, factor: float, offset: float) -> Uint8:
    """(h, w) -> the same times `factor`, and `offset`; what is then below 0 or above 255 becomes that."""
    table = cv2.addWeighted(LEVELS, factor, LEVELS, 0, offset, dtype=cv2.CV_8U)
    return cast(Uint8, cv2.LUT(level, table))


def plane_of(level: Uint8, paper: Uint8) -> Light:
    """The plane through the paper, which is where that is 255."""
    step = step_of(level.shape, SAMPLE)
    few = sample(paper, step) > 0
    if not few.any():
        few, step = paper > 0, 1
    return through(level.shape, fit_plane(sample(level, step), few), step)


def slope(grey: Uint8) -> Light:
    """The plane through most of the pixels, which are paper lit from one side."""
    step = step_of(grey.shape, FEW)
    levels = sample(grey, step).astype(np.float32)
    plane, most = fit_plane(levels, np.ones_like(levels)), int(0.7 * levels.size)  # ink is a minority
    for _ in range(2):
        under = np.array(plane, np.float32) @ powers(*levels.shape)[:3]
        off = np.abs(levels - under.reshape(levels.shape))
        plane = fit_plane(levels, off <= np.partition(off, most, axis=None)[most])
    return through(grey.shape, plane, step)


def step_of(shape: tuple[int, ...], side: int) -> int:
    """How many pixels a sample goes on at a time. It is odd, so that it keeps no time with a dithered picture."""
    return -(-max(shape) // side) | 1


def sample(grey: Uint8, step: int) -> Uint8:
    """Every few pixels of every few rows."""
    return grey[::step, ::step]


def through(shape: tuple[int, ...], plane: Light, step: int) -> Light:
    """The plane over a picture of that shape. plane: over a sample of it, whose middle is not quite the picture's."""
    off_down, off_across = ((length - 1) % step / 2 for length in shape)
    down, across = plane.down / step, plane.across / step
    return Light(plane.level + down * off_down + across * off_across, down, across)


def fit_plane(level: AnyArray, where: AnyArray) -> Light:
    """The least-squares plane through the pixels of which `where` is 1, and not 0; there must be one."""
    places = powers(*level.shape)
    weights = where.astype(np.float32).ravel()
    count, down, right, downs, rights, both = (places @ weights).tolist()
    mass, mass_down, mass_right = (places[:3] @ (weights * level.ravel())).tolist()
    y, x = down / count, right / count
    along, across = mass_down - y * mass, mass_right - x * mass
    # A thousandth of a pixel squared: what lies in a line has no slope across it.
    yy, xx, xy = downs - y * down + 1e-3 * count, rights - x * right + 1e-3 * count, both - x * down
    apart = xx * yy - xy * xy
    by_y, by_x = (xx * along - xy * across) / apart, (yy * across - xy * along) / apart
    return Light(mass / count - by_y * y - by_x * x, by_y, by_x)


@lru_cache(maxsize=64)
def powers(height: int, width: int) -> Float32:
    """(6, height * width): 1, how far each pixel is from the middle down and across, the squares and the product of
    both. Not to be changed."""
    down, across = (each.ravel() for each in np.meshgrid(from_middle(height), from_middle(width), indexing="ij"))
    return np.stack([np.ones_like(down), down, across, down * down, across * across, down * across])


def levelled(grey: Uint8, plane: Light, base: float) -> Uint8:
    """The picture as if its paper had the level `base` everywhere."""
    under = Light(plane.level - base, plane.down, plane.across)
    return cast(Uint8, cv2.subtract(grey, under.over(grey.shape), dtype=cv2.CV_8U))
