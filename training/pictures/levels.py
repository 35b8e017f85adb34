"""How much ink is at each pixel: paper and ink are divided by one threshold, over light that falls off evenly.

Pictures are looked at as counts of their 256 levels, and made into others by tables of 256 levels: each costs a few
microseconds, whatever is computed of them. It knows grey levels, not what is drawn.
"""

from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple, cast

import cv2
import numpy as np

from training.arrays import Float32, Float64, Uint8
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
    """of_each: (256,), how often each level occurs. up_to: (256,), it and all below."""

    of_each: Float64
    up_to: Float64

    @classmethod
    def of(cls, of_each: Float64) -> "Counts":
        return cls(of_each, of_each.cumsum())

    @property
    def total(self) -> float:
        return float(self.up_to[-1])

    def turned_around(self) -> "Counts":
        """Of the negative."""
        return self.of(self.of_each[::-1])

    def percentile(self, share: float, *, above: int = -1) -> float:
        """NumPy's percentile of the levels above one."""
        least = float(self.up_to[above]) if above >= 0 else 0.0
        place = least + share * (self.total - least - 1)
        low, high = self.up_to.searchsorted([floor(place), ceil(place)], side="right").tolist()
        return float(low + (high - low) * (place - floor(place)))

    def share_above(self, level: int) -> float:
        return 1 - float(self.up_to[level]) / self.total


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
    threshold, clearness = otsu(counts)
    if clearness >= CLEAR:
        return evened(grey, above(grey, threshold), counts, threshold, clearness)
    even = levelled(grey, slope(grey), 128)
    light = above(even, otsu(counted(even))[0])
    found = evened(grey, light, counts, threshold, clearness)
    if found.clearness >= CLEAR:
        return found
    return max(evened(grey, above(grey, threshold), counts, threshold, clearness), found, key=distance)


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
    return Evened(level, ROOM, counts, *otsu(counts), is_negative, plane)


def distance(found: Evened) -> float:
    """How many of their standard deviations paper and ink are apart, squared: 7 in noise that is cut in its middle."""
    ink = found.counts.share_above(found.threshold)
    return found.clearness / max((1 - found.clearness) * ink * (1 - ink), 1e-9)


def share_of_stroke(level: Uint8, base: float, counts: Counts, threshold: int, stroke: float) -> Uint8:
    """(h, w) levels -> (h, w): 0 up to the noise of the paper, 255 where they are a whole `stroke` above the `base`.

    counts: how often each level occurs; those up to the threshold are paper.
    """
    away = np.abs(LEVELS[: threshold + 1] - base)
    order = away.argsort()
    below = counts.of_each[order].cumsum()
    noise = 1.5 * float(away[order[below.searchsorted(below[-1] / 2)]])  # a standard deviation, by the median
    least = min(3 * noise, stroke / 4)
    factor = 255 / (stroke - least)
    return scaled(level, factor, -factor * (base + least))


def counted(grey: Uint8) -> Counts:
    """How often each level occurs."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])
    return Counts.of(counts.reshape(-1).astype(np.float64))


def otsu(counts: Counts) -> tuple[int, float]:
    """Otsu's threshold (1979): the highest level of the darker pixels, and how well it separates them.

    The second is the variance between the two classes as a share of all variance: near 1 for two plain greys.
    """
    below, total = counts.up_to, counts.total
    weights = counts.of_each * LEVELS
    sums = weights.cumsum()
    mass = float(sums[-1])
    off = sums * total - below * mass
    between = off * off / np.maximum(below * (total - below), 1)
    best = int(between.argmax())
    spread = total * float(weights @ LEVELS) - mass * mass  # `total` squared times the variance
    return best, float(between[best]) / max(spread, 1e-6 * total * total)


def above(grey: Uint8, threshold: float) -> Uint8:
    """255 where a picture is lighter than that, else 0."""
    return cast(Uint8, cv2.threshold(grey, threshold, 255, cv2.THRESH_BINARY)[1])


def scaled(level: Uint8, factor: float, offset: float) -> Uint8:
    """(h, w) -> the same times `factor`, and `offset`; what is then below 0 or above 255 becomes that."""
    table = cv2.addWeighted(LEVELS, factor, LEVELS, 0, offset, dtype=cv2.CV_8U)
    return cast(Uint8, cv2.LUT(level, table))


def plane_of(level: Uint8, paper: Uint8) -> Light:
    """The plane through the paper, which is where that is 255."""
    step = step_of(level.shape, SAMPLE)
    few = sample(paper, step)
    if not cv2.countNonZero(few):
        return fit_plane(level, paper)
    return through(level.shape, fit_plane(sample(level, step), few), step)


def slope(grey: Uint8) -> Light:
    """The plane through most of the pixels, which are paper lit from one side."""
    step = step_of(grey.shape, FEW)
    few = sample(grey, step)
    levels, most = few.astype(np.float32), np.full(few.shape, 255, np.uint8)
    plane = fit_plane(few, most)
    for _ in range(2):
        off = cv2.absdiff(levels, plane.over(few.shape))
        far = np.partition(off, int(0.7 * off.size), axis=None)[int(0.7 * off.size)]  # ink is a minority
        plane = fit_plane(few, (off <= far).view(np.uint8) * np.uint8(255))
    return through(grey.shape, plane, step)


def step_of(shape: tuple[int, ...], side: int) -> int:
    """How many pixels a sample goes on at a time. It is odd, so that it keeps no time with a dithered picture."""
    return -(-max(shape) // side) | 1


def sample(grey: Uint8, step: int) -> Uint8:
    """Every few pixels of every few rows."""
    return np.ascontiguousarray(grey[::step, ::step])


def through(shape: tuple[int, ...], plane: Light, step: int) -> Light:
    """The plane over a picture of that shape. plane: over a sample of it, whose middle is not quite the picture's."""
    off_down, off_across = ((length - 1) % step / 2 for length in shape)
    down, across = plane.down / step, plane.across / step
    return Light(plane.level + down * off_down + across * off_across, down, across)


def fit_plane(level: Uint8, where: Uint8) -> Light:
    """The least-squares plane through the pixels set in `where`, 255 each; there must be one."""
    places, levels = cv2.moments(where), cv2.moments(cv2.bitwise_and(level, where))
    count, mass = places["m00"] / 255, levels["m00"]
    x, y = places["m10"] / places["m00"], places["m01"] / places["m00"]
    mean = mass / count
    across, down = levels["m10"] - x * mass, levels["m01"] - y * mass
    # A thousandth of a pixel squared: what lies in a line has no slope across it.
    xx, yy, xy = places["mu20"] / 255 + 1e-3 * count, places["mu02"] / 255 + 1e-3 * count, places["mu11"] / 255
    apart = xx * yy - xy * xy
    right, down = (yy * across - xy * down) / apart, (xx * down - xy * across) / apart
    height, width = level.shape
    middle = mean + down * ((height - 1) / 2 - y) + right * ((width - 1) / 2 - x)
    return Light(middle, down, right)


def levelled(grey: Uint8, plane: Light, base: float) -> Uint8:
    """The picture as if its paper had the level `base` everywhere."""
    under = plane._replace(level=plane.level - base)
    return cast(Uint8, cv2.subtract(grey, under.over(grey.shape), dtype=cv2.CV_8U))
