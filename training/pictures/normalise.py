"""Sets the one digit in a grey picture as NIST's digits were set to become MNIST's.

Light on dark, cropped to its ink, scaled into 20x20 keeping its aspect, its centre of mass in the middle
of 28x28. It knows arrays alone: `read` turns bytes into them.
"""

from operator import itemgetter

import numpy as np
from PIL import Image, ImageFilter

from training.arrays import SIDE, Bool, Float32, Uint8
from training.errors import PictureError
from training.pictures.components import Sheet, bounds, edges_of, locate

BOX = 20  # pixels of the longer side of its ink
MIDDLE = 14.0  # where the centre of mass lies in all 70,000 of MNIST, within half a pixel

OFF_MIDDLE = 0.55  # pixels at most from there
LEAST_TOP = 128  # the lightest pixel of a glyph at least; MNIST's are all 254 or 255

# (784, 3): pixels times this are the sums of row, column and 1, weighted by level; below 2**24, so exact in float32.
MOMENTS = np.stack([*np.mgrid[:SIDE, :SIDE], np.ones((SIDE, SIDE))], -1).reshape(-1, 3).astype(np.float32)

WORK_SIDE = 256  # pixels; a larger picture is searched reduced
DETAIL = 64  # pixels of ink that are enough to draw it in 20; less is cut out of the larger picture
MIN_CONTRAST = 16.0  # grey levels between paper and ink; the noise of a blank scan stays well below
CLEAR = 0.85  # if paper and ink divide this well, the light need not be searched for a slope
FULL = 70  # the percentile of the ink's pixels that counts as a whole stroke
FAINT = 0.3  # ink lighter than this joins no two strokes
STROKE_WIDTH = 2.0  # pixels of the 20, MNIST's median; a finer line would fade away when scaled down
EDGE = 0.1  # ink lighter than this is outside the crop


def set_like_mnist(grey: Uint8) -> Uint8:
    """(h, w) uint8 of either polarity -> (28, 28) uint8, light on dark. PictureError `blank` without ink."""
    return centred(fitted(thickened(find_ink(grey))))


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


def find_ink(grey: Uint8) -> Float32:
    """(h, w) uint8 -> (h', w') float32 in 0..1: the digit's ink alone, cropped, 0 where there is paper.

    PictureError `blank` without a stroke.
    """
    factor = -(-max(grey.shape) // WORK_SIDE)
    picture = reduced(grey, factor)
    ink = ink_levels(picture)
    located = locate(ink > FAINT)
    if isinstance(located, Sheet):
        return find_ink(grey[located.box.scaled(factor).slices])
    if not located.mask.any():
        raise PictureError(
            "blank", "There are specks, and none is a stroke. Send a picture in which the digit stands out."
        )
    box = located.box
    if factor > 1 and box.longer < DETAIL:
        return find_ink(grey[box.grown(2 + box.longer // 4, ink.shape).scaled(factor).slices])
    ink = np.where(widened(located.mask), ink, np.float32(0))
    return ink[bounds(ink > EDGE).slices]


def reduced(grey: Uint8, factor: int) -> Uint8:
    """The mean of every factor x factor pixels."""
    return grey if factor == 1 else np.asarray(Image.fromarray(grey).reduce(factor))


def ink_levels(grey: Uint8) -> Float32:
    """(h, w) uint8 -> (h, w) float32: how much ink is at each pixel, 0 on the paper, 1 in a stroke.

    PictureError `blank` without ink.
    """
    level = grey.astype(np.float32)
    light, clearness = otsu_split(level)
    if clearness < CLEAR:
        light = max((light, clearness), otsu_split(level - slope(level)), key=itemgetter(1))[0]
    # The edge may be a frame, and a bold digit may cover most of the picture: the whole counts twice, the edge once.
    paper_is_light = 2 * light.mean() + edges_of(light).mean() > 1.5
    paper = light if paper_is_light else ~light
    darkness = plane(fit_plane(level, paper), level.shape) - level
    ink = darkness if paper_is_light else -darkness
    strokes, _ = otsu_split(ink)
    stroke = float(np.percentile(ink[strokes], FULL)) if strokes.any() else 0.0
    if stroke < MIN_CONTRAST:
        raise PictureError(
            "blank",
            f"No ink was found: paper and ink differ by {max(stroke, 0):.0f} of 255 grey levels. "
            "Send a picture in which the digit stands out.",
        )
    noise = 1.5 * float(np.median(np.abs(ink[~strokes])))  # a standard deviation, by the median
    floor = min(3 * noise, stroke / 4)
    share: Float32 = np.clip((ink - floor) / (stroke - floor), 0, 1)
    return share


def otsu_split(level: Float32) -> tuple[Bool, float]:
    """Otsu's threshold (1979): the mask of the lighter pixels, and how well the threshold separates them.

    The second is the variance between the two classes as a share of all variance: near 1 for two plain greys.
    """
    counts, edges = np.histogram(level, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = level.size - below
    sums = np.cumsum(counts * middles)
    apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * apart**2 / level.size**2
    best = int(np.argmax(between))
    return level > edges[1 + best], float(between[best] / max(level.var(), 1e-6))


def slope(level: Float32) -> Float32:
    """(h, w) -> (h, w): the plane through most of the pixels, which are paper lit from one side."""
    step = -(-max(level.shape) // 64)
    few = level[::step, ::step]
    most = np.ones(few.shape, bool)
    for _ in range(4):
        factors = fit_plane(few, most)
        off = np.abs(few - plane(factors, few.shape))
        most = off <= np.percentile(off, 70)  # ink is a minority, and soon left out
    return plane(factors, level.shape)


def fit_plane(level: Float32, where: Bool) -> Float32:
    """(3,): the factors of the least-squares plane through the pixels set in `where`."""
    seen = slopes(level.shape)[:, where]
    factors, *_ = np.linalg.lstsq(seen @ seen.T, seen @ level[where], rcond=None)
    return np.asarray(factors, np.float32)


def plane(factors: Float32, shape: tuple[int, ...]) -> Float32:
    """(3,) factors -> the plane, of `shape`."""
    level: Float32 = np.tensordot(factors, slopes(shape), axes=1)
    return level


def slopes(shape: tuple[int, ...]) -> Float32:
    """(3, h, w): a level, a rise downwards and a rise to the right."""
    height, width = shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.ones((3, height, width), np.float32)
    basis[1], basis[2] = y, x
    return basis


def widened(mask: Bool) -> Bool:
    """The mask and the soft edge around it."""
    reach = 1 + max(mask.shape) // 64
    padded = np.pad(mask, reach)
    rows = np.logical_or.reduce([padded[i : i + mask.shape[0]] for i in range(2 * reach + 1)])
    wide: Bool = np.logical_or.reduce([rows[:, i : i + mask.shape[1]] for i in range(2 * reach + 1)])
    return wide


def thickened(ink: Float32) -> Float32:
    """The same ink, its strokes widened where they are much thinner than MNIST's."""
    drawn = np.pad(ink > 0.5, 1)
    outline = sum(np.count_nonzero(np.diff(drawn, axis=axis)) for axis in (0, 1))
    width = 2 * np.count_nonzero(drawn) / max(outline, 1)  # pixels: a line has two long edges
    missing = STROKE_WIDTH * max(ink.shape) / BOX - width
    if missing < 1.5:
        return ink
    size = 1 + 2 * round(missing / 2)
    image = Image.fromarray(np.rint(np.pad(ink, size // 2) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(size)), np.float32) / np.float32(255)


def fitted(ink: Float32) -> Float32:
    """(h, w) -> the same ink with a longer side of 20 pixels."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return ink
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


def centred(ink: Float32) -> Uint8:
    """(h, w) of at most 20 -> (28, 28) uint8 with its centre of mass nearest to the middle."""
    glyph = np.zeros((SIDE, SIDE), np.uint8)
    total = float(ink.sum())
    corner = []
    for line in (ink.sum(axis=1), ink.sum(axis=0)):
        centre = float(line @ np.arange(len(line))) / total
        corner.append(min(max(round(MIDDLE - centre), 0), SIDE - len(line)))
    top, left = corner
    glyph[top : top + ink.shape[0], left : left + ink.shape[1]] = np.rint(ink * 255)
    return glyph
