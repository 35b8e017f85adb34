"""A map of vectors as a picture, drawn with Pillow alone. It must not know where the points come from."""

from __future__ import annotations

from collections import Counter
from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from twinvec_client import Map

WIDTH, HEIGHT = 1200, 1000  # pixels
_FINE = 2  # times as large while it is drawn: its edges are smooth then
_MARGIN = 40
_TOP, _LEGEND = 90, 130  # pixels above and to the right of the points
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 40, 40), (120, 120, 120)
_NO_LABEL = (170, 170, 170)
_COLOURS = (  # Tableau 10
    (78, 121, 167), (242, 142, 43), (225, 87, 89), (118, 183, 178), (89, 161, 79),
    (237, 201, 72), (176, 122, 161), (255, 157, 167), (156, 117, 95), (64, 64, 64),
)  # fmt: skip
_LISTED = 20  # labels in the legend; of more, the most frequent

Colour = tuple[int, int, int]


def draw(found: Map, title: str) -> Image.Image:
    """Every point as a dot in its label's colour, each label's name where most of its points are, and a legend."""
    large = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), _PAPER)
    pen = ImageDraw.Draw(large)
    places = _placed(np.array([(point.x, point.y) for point in found.points]).reshape(-1, 2))
    labels = [point.label for point in found.points]
    colours = {label: _colour(label) for label in set(labels)}
    radius = _FINE * min(max(60 / max(len(places), 1) ** 0.35, 1.5), 5)
    # In an order that is not that of the labels, or the last would cover the others.
    for at in np.random.default_rng(0).permutation(len(places)):
        x, y = places[at]
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colours[labels[at]])
    _name_labels(pen, places, labels)
    _write_title(pen, found, title)
    _write_legend(pen, labels)
    return large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _placed(points: np.ndarray) -> np.ndarray:
    """(n, 2) -> pixels of the large picture, the same scale both ways, y upwards."""
    if not len(points):
        return points
    least, most = points.min(axis=0), points.max(axis=0)
    room = np.array([WIDTH - _LEGEND - 2 * _MARGIN, HEIGHT - _TOP - 2 * _MARGIN], np.float64)
    span = np.maximum(most - least, 1e-12)
    scale = (room / span).min()
    middle = np.array([_MARGIN + room[0] / 2, _TOP + _MARGIN + room[1] / 2])
    placed: np.ndarray = (middle + (points - (least + most) / 2) * scale * (1, -1)) * _FINE
    return placed


def _colour(label: int | None) -> Colour:
    """Ten that are told apart; beyond, hues a golden section apart."""
    if label is None:
        return _NO_LABEL
    if label < len(_COLOURS):
        return _COLOURS[label]
    red, green, blue = hsv_to_rgb(label * 0.618034 % 1, 0.65, 0.8)
    return int(red * 255), int(green * 255), int(blue * 255)


def _name_labels(pen: ImageDraw.ImageDraw, places: np.ndarray, labels: list[int | None]) -> None:
    font = ImageFont.load_default(26 * _FINE)
    for label, _count in Counter(label for label in labels if label is not None).most_common(_LISTED):
        x, y = np.median(places[[each == label for each in labels]], axis=0)
        pen.text((x, y), str(label), fill=_INK, font=font, anchor="mm", stroke_width=3 * _FINE, stroke_fill=_PAPER)


def _write_title(pen: ImageDraw.ImageDraw, found: Map, title: str) -> None:
    of = "" if len(found.points) == found.stored else f" of {found.stored:,}, a sample"
    along = " and ".join(f"{share:.0%}" for share in found.explained)
    lines = (
        (f"{len(found.points):,} digits{of}: {title}", 22, _INK),
        (f"tower {found.tower[:12]}; first two principal components: {along} of the variance", 15, _FAINT),
    )
    y = _MARGIN * 0.6
    for text, size, colour in lines:
        pen.text((_MARGIN * _FINE, y * _FINE), text, fill=colour, font=ImageFont.load_default(size * _FINE))
        y += size * 1.5


def _write_legend(pen: ImageDraw.ImageDraw, labels: list[int | None]) -> None:
    font, counts = ImageFont.load_default(15 * _FINE), Counter(labels)
    listed = [label for label, _ in counts.most_common(_LISTED)]
    x, y = (WIDTH - _LEGEND) * _FINE, (_TOP + _MARGIN) * _FINE
    for label in sorted(listed, key=lambda label: (label is None, label)):
        pen.ellipse((x, y, x + 12 * _FINE, y + 12 * _FINE), fill=_colour(label))
        name = "no label" if label is None else str(label)
        pen.text((x + 20 * _FINE, y + 6 * _FINE), name, fill=_INK, font=font, anchor="lm")
        pen.text((x + 112 * _FINE, y + 6 * _FINE), f"{counts[label]:,}", fill=_FAINT, font=font, anchor="rm")
        y += 24 * _FINE
    if len(counts) > len(listed):
        pen.text((x, y), f"and {len(counts) - len(listed):,} more", fill=_FAINT, font=font)
