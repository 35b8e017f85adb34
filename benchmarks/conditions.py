"""MNIST's digits put into the conditions of the field: on paper, under a lamp, beside lines, on cards.

Each condition draws from a seed of its own, so two versions of a reader are judged by the same pictures. It knows
nothing of readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw

from training.arrays import Float32, Uint8

DIGIT = 112  # pixels that MNIST's 28 are drawn in
PAGE = 200  # pixels of a page's side
LIGHT = 235.0  # the level of paper
PEN = 0.8  # of the light that full ink takes
RULE = 0.5  # of the ink that a printed rule has

Draw = Callable[[Uint8, np.random.Generator], Any]  # a digit -> what a caller gives: the bytes of a file, an array


# --- the digit, the page, the file


def enlarged(digit: Uint8, side: int = DIGIT) -> Float32:
    """(28, 28) uint8 -> (side, side) in 0..1."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / np.float32(255)


def on_page(digit: Uint8, random: np.random.Generator, *, side: int = PAGE, size: int = DIGIT) -> Float32:
    """(side, side) in 0..1: a digit somewhere on a page."""
    ink = np.zeros((side, side), np.float32)
    top, left = random.integers(12, side - size - 11, 2)
    ink[top : top + size, left : left + size] = enlarged(digit, size)
    return ink


def paper(ink: Float32, light: float | Float32 = LIGHT, pen: float = PEN) -> Float32:
    """Ink that takes `pen` of the light -> levels."""
    return np.asarray(light * (1 - pen * ink), np.float32)


def png(levels: Float32 | Uint8, mode: str | None = None) -> bytes:
    """Levels in 0..255 -> the bytes of a PNG."""
    file = BytesIO()
    Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8), mode).save(file, "PNG", compress_level=1)
    return file.getvalue()


def grain(random: np.random.Generator, shape: tuple[int, ...], deviation: float = 2.0) -> Float32:
    """Noise of a camera, in levels."""
    return np.asarray(random.normal(0, deviation, shape), np.float32)


def box_of(ink: Float32) -> tuple[int, int, int, int]:
    """The top, left, bottom and right of what is drawn, half-open."""
    rows, columns = np.flatnonzero((ink > 0.5).any(axis=1)), np.flatnonzero((ink > 0.5).any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def sketched(ink: Float32, draw: Callable[[ImageDraw.ImageDraw], None]) -> Float32:
    """The ink with something more drawn in it, the darker of the two where they cross."""
    image = Image.new("F", ink.shape[::-1])
    draw(ImageDraw.Draw(image))
    both: Float32 = np.maximum(ink, np.asarray(image))
    return both


def plain(digit: Uint8, random: np.random.Generator) -> bytes:
    return png(paper(on_page(digit, random)))


# --- drawings on nothing


def canvas(ink: Float32, levels: Float32 | float, opacity: float = 1.0) -> bytes:
    grey = np.broadcast_to(np.asarray(levels, np.float32), ink.shape)
    return png(np.stack([grey, grey, grey, 255 * opacity * ink], axis=-1), "RGBA")


def two_pens(digit: Uint8, random: np.random.Generator) -> bytes:
    """The upper half in black, the lower in grey."""
    ink = on_page(digit, random)
    top, _, bottom, _ = box_of(ink)
    return canvas(ink, np.where(np.arange(len(ink))[:, None] < (top + bottom) // 2, 0.0, 150.0).astype(np.float32))


def half_transparent(digit: Uint8, random: np.random.Generator) -> bytes:
    return canvas(on_page(digit, random), 0.0, 110 / 255)


def white_made_transparent(digit: Uint8, random: np.random.Generator) -> bytes:
    file = BytesIO()
    image = Image.fromarray(np.rint(255 * (1 - on_page(digit, random))).astype(np.uint8))
    image.save(file, "PNG", transparency=255)
    return file.getvalue()


# --- what a PIL image loses on its way


def turned_by_its_tag(digit: Uint8, random: np.random.Generator) -> Image.Image:
    """A photograph whose tag says that it lies on its side, opened by Pillow."""
    levels = np.rint(paper(on_page(digit, random))).astype(np.uint8)
    image = Image.fromarray(levels).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    file = BytesIO()
    image.save(file, "JPEG", exif=tags)
    return Image.open(file)


# --- levels and polarity of arrays


def zeros_and_ones(digit: Uint8, random: np.random.Generator) -> Uint8:
    return (digit > 127).astype(np.uint8)


def dark_on_light(digit: Uint8, random: np.random.Generator) -> Float32:
    """28x28 in 0..1, black on white."""
    return np.asarray(1 - digit / 255, np.float32)


# --- light


def shadow(depth: float) -> Draw:
    def draw(digit: Uint8, random: np.random.Generator) -> bytes:
        """A hand's shadow, its edge, sharp or soft, through the page at any angle."""
        ink = on_page(digit, random)
        y, x = np.mgrid[: len(ink), : len(ink)].astype(np.float32)
        angle, middle = random.uniform(0, 2 * np.pi), len(ink) / 2 + random.uniform(-40, 40)
        across = (x - middle) * np.cos(angle) + (y - middle) * np.sin(angle)
        light = LIGHT * (1 - depth / (1 + np.exp(-across / random.uniform(1, 6)))) + grain(random, ink.shape)
        return png(paper(ink, light.astype(np.float32)))

    return draw


def lamp(digit: Uint8, random: np.random.Generator) -> bytes:
    """A lamp beside the page: light that falls off in all directions."""
    ink = on_page(digit, random)
    y, x = np.mgrid[: len(ink), : len(ink)].astype(np.float32)
    far = np.hypot(y - random.uniform(0, len(ink)), x - random.uniform(0, len(ink))) / len(ink)
    return png(paper(ink, (90 + 155 * np.exp(-2.5 * far**2)).astype(np.float32) + grain(random, ink.shape)))


def vignette(digit: Uint8, random: np.random.Generator) -> bytes:
    """A lens whose corners are dark."""
    ink = on_page(digit, random)
    y, x = np.mgrid[-1 : 1 : len(ink) * 1j, -1 : 1 : len(ink) * 1j].astype(np.float32)
    light = LIGHT * (1 - random.uniform(0.25, 0.4) * (x**2 + y**2))
    return png(paper(ink, light.astype(np.float32) + grain(random, ink.shape)))


def band_of_shadow(digit: Uint8, random: np.random.Generator) -> bytes:
    """The shadow of a pen or an arm: a dark band across the page."""
    ink = on_page(digit, random)
    y, x = np.mgrid[: len(ink), : len(ink)].astype(np.float32)
    angle, middle = random.uniform(0, 2 * np.pi), len(ink) / 2
    across = np.abs((x - middle) * np.cos(angle) + (y - middle) * np.sin(angle) - random.uniform(-60, 60))
    depth = random.uniform(0.2, 0.4) / (1 + np.exp((across - random.uniform(15, 35)) / 3))
    return png(paper(ink, (LIGHT * (1 - depth)).astype(np.float32) + grain(random, ink.shape)))


# --- printed lines


def ruled(digit: Uint8, random: np.random.Generator) -> bytes:
    """Rules over the whole page, at half the ink."""
    ink = on_page(digit, random)
    rules = np.zeros_like(ink)
    for row in range(int(random.integers(0, 24)), len(ink), int(random.integers(24, 40))):
        rules[row : row + 2] = RULE
    return png(paper(np.maximum(ink, rules)))


def squared(digit: Uint8, random: np.random.Generator) -> bytes:
    """Squared paper, at half the ink."""
    ink = on_page(digit, random)
    rules = np.zeros_like(ink)
    for line in range(int(random.integers(0, 20)), len(ink), int(random.integers(20, 34))):
        rules[line : line + 2] = rules[:, line : line + 2] = RULE
    return png(paper(np.maximum(ink, rules)))


def on_a_baseline(digit: Uint8, random: np.random.Generator) -> bytes:
    """A line in full ink that the digit stands on."""
    ink = on_page(digit, random)
    row = box_of(ink)[2] - 1 + int(random.integers(-1, 2))
    ink[row : row + 3, 6:-6] = 1
    return png(paper(ink))


def in_a_circle(digit: Uint8, random: np.random.Generator) -> bytes:
    """A circle drawn around it, as a stamp's or an answer's is."""
    ink = np.pad(on_page(digit, random), 60)
    rows, columns = np.nonzero(ink > 0.5)
    y, x = rows.mean(), columns.mean()
    reach = np.hypot(rows - y, columns - x).max() + random.uniform(6, 14)
    width = int(random.integers(2, 5))
    return png(
        paper(
            sketched(ink, lambda d: d.ellipse((x - reach, y - reach, x + reach, y + reach), outline=1.0, width=width))
        )
    )


def in_a_cell(digit: Uint8, random: np.random.Generator) -> bytes:
    """A cell of a table, whose borders go on beyond it."""
    ink = np.pad(on_page(digit, random, side=160), 40)
    side = len(ink)
    left, top = random.integers(32, 44, 2)
    right, bottom = side - random.integers(32, 44, 2)

    def borders(pen: ImageDraw.ImageDraw) -> None:
        for at in (left, right):
            pen.line((at, 0, at, side), fill=0.9, width=3)
        for at in (top, bottom):
            pen.line((0, at, side, at), fill=0.9, width=3)

    return png(paper(sketched(ink, borders)))


def underlined(digit: Uint8, random: np.random.Generator) -> bytes:
    """A short rule below the digit, that touches nothing."""
    ink = np.pad(on_page(digit, random), ((0, 30), (20, 20)))
    _, left, bottom, right = box_of(ink)
    row, middle = bottom + int(random.integers(7, 14)), (left + right) // 2
    ink[row : row + 4, max(middle - 40, 0) : middle + 40] = 1
    return png(paper(ink))


# --- a figure in a figure


def note(angle: float, *, light: float = LIGHT, desk: float = 60.0) -> Draw:
    def draw(digit: Uint8, random: np.random.Generator) -> bytes:
        """A note on a desk, turned a little."""
        sheet = Image.fromarray(paper(on_page(digit, random), light))
        table = Image.new("F", (300, 300), desk)
        table.paste(sheet, (int(random.integers(30, 70)), int(random.integers(30, 70))))
        turned = table.rotate(angle * random.choice([-1, 1]), Image.Resampling.BICUBIC, fillcolor=desk)
        return png(np.asarray(turned) + grain(random, (300, 300)))

    return draw


def on_a_disc(digit: Uint8, random: np.random.Generator) -> bytes:
    """A light digit on a dark disc on light paper, as signs have it."""
    ink = np.pad(enlarged(digit, 100), 70)
    y, x = np.mgrid[: len(ink), : len(ink)] - len(ink) / 2
    disc = np.hypot(y, x) < random.uniform(85, 110)
    return png(np.where(disc, 50 + 190 * ink, LIGHT).astype(np.float32))


# --- more than one thing


def punched(digit: Uint8, random: np.random.Generator) -> bytes:
    """Two or three holes of a punch at the edge, dark."""
    ink = np.pad(on_page(digit, random), ((10, 10), (60, 0)))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    rows = (55, 165) if random.random() < 0.5 else (30, 110, 190)
    for row in rows:
        ink[np.hypot(y - row, x - 28) < random.uniform(9, 14)] = random.uniform(0.8, 1)
    return png(paper(ink))


def torn_hole(digit: Uint8, random: np.random.Generator) -> bytes:
    """A hole that tore open to the edge."""
    ink = np.pad(on_page(digit, random), ((0, 0), (60, 0)))
    row = int(random.integers(40, 160))
    ragged = np.asarray(random.normal(0, 2.5, ink.shape[0]))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    ink[(np.hypot(y - row, x - 26) < 13) | ((np.abs(y - row) < 7 + ragged[:, None]) & (x < 28))] = 0.95
    return png(paper(ink))


def stapled(digit: Uint8, random: np.random.Generator) -> bytes:
    """A staple in a corner, aslant."""
    ink = np.pad(on_page(digit, random), ((40, 0), (40, 0)))
    y, x, angle = random.uniform(18, 26), random.uniform(22, 30), random.uniform(0, np.pi)
    down, right = 15 * np.sin(angle), 15 * np.cos(angle)
    return png(paper(sketched(ink, lambda d: d.line((x - right, y - down, x + right, y + down), fill=0.9, width=4))))


def with_a_comma(digit: Uint8, random: np.random.Generator) -> bytes:
    """A dot or a comma to the right of the digit's foot."""
    ink = np.pad(on_page(digit, random), ((0, 40), (0, 40)))
    _, _, bottom, right = box_of(ink)
    x, y, r = right + int(random.integers(8, 16)), bottom - 4, int(random.integers(4, 7))
    tail = int(random.integers(0, 14))

    def mark(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=1.0)
        pen.line((x + r // 2, y, x - r, y + tail), fill=1.0, width=4)

    return png(paper(sketched(ink, mark)))


def several(count: int) -> Draw:
    def draw(digit: Uint8, random: np.random.Generator) -> bytes:
        """The digit as often as that, side by side."""
        return png(paper(np.concatenate([on_page(digit, random, side=150) for _ in range(count)], axis=1)))

    return draw


CONDITIONS: dict[str, Draw] = {
    "plain": plain,
    "two pens on nothing": two_pens,
    "a pen at alpha 110": half_transparent,
    "white made transparent": white_made_transparent,
    "a JPEG on its side, as a PIL image": turned_by_its_tag,
    "an array of 0 and 1": zeros_and_ones,
    "a 28x28 array, dark on light": dark_on_light,
    "a shadow, 10 %": shadow(0.1),
    "a shadow, 20 %": shadow(0.2),
    "a shadow, 30 %": shadow(0.3),
    "a shadow, 40 %": shadow(0.4),
    "a shadow, 50 %": shadow(0.5),
    "a band of shadow": band_of_shadow,
    "a lamp beside": lamp,
    "dark corners": vignette,
    "ruled paper": ruled,
    "squared paper": squared,
    "on a baseline": on_a_baseline,
    "in a circle": in_a_circle,
    "in a table's cell": in_a_cell,
    "underlined": underlined,
    "a note on a desk": note(0),
    "a note, turned 1 degree": note(1),
    "a note, turned 5 degrees": note(5),
    "a note, turned 20 degrees": note(20),
    "a note, turned 45 degrees": note(45),
    "a grey note on a light desk": note(8, light=150.0, desk=225.0),
    "white on a disc": on_a_disc,
    "punched holes": punched,
    "a torn hole": torn_hole,
    "a staple": stapled,
    "a comma beside": with_a_comma,
    "two digits": several(2),
    "three digits": several(3),
}
SEVERAL = ("two digits", "three digits")  # which are refused, not read


def drawn(condition: str, digits: Uint8) -> Iterator[Any]:
    """(n, 28, 28) -> the picture of each digit in a condition, as a caller gives it."""
    random = np.random.default_rng(list(CONDITIONS).index(condition))
    return (CONDITIONS[condition](digit, random) for digit in digits)
