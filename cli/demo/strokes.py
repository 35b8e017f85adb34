"""Digits that are not MNIST's: pen strokes on a sheet of paper, as a camera sees them. It must not know the demo."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DIGITS = (2, 3, 4, 7)

# Strokes as points from the top left (0, 0) to the bottom right (1, 1) of the digit; a pen curves through them.
_STROKES: dict[int, list[list[tuple[float, float]]]] = {
    2: [[(0.12, 0.25), (0.3, 0.05), (0.65, 0.03), (0.85, 0.28), (0.55, 0.65), (0.1, 0.95), (0.5, 0.92), (0.95, 0.96)]],
    3: [[(0.12, 0.1), (0.5, 0.02), (0.82, 0.2), (0.42, 0.47), (0.88, 0.7), (0.55, 0.97), (0.1, 0.88)]],
    4: [[(0.3, 0.03), (0.22, 0.3), (0.08, 0.58), (0.45, 0.56), (0.9, 0.53)], [(0.7, 0.1), (0.66, 0.5), (0.6, 0.98)]],
    7: [[(0.08, 0.08), (0.45, 0.07), (0.9, 0.04), (0.62, 0.45), (0.45, 0.98)]],
}
_SHEET = (400, 300)  # width, height in pixels
_BOX = (210, 70, 100, 150)  # left, top, width, height of the digit on it
_PAPER, _INK, _PEN = 232, 48, 13  # grey levels; the pen's width in pixels


def png(digit: int) -> bytes:
    """A PNG of dark ink on light, unevenly lit paper, the digit small and off the centre."""
    sheet = Image.new("L", _SHEET, _PAPER)
    pen = ImageDraw.Draw(sheet)
    left, top, width, height = _BOX
    for stroke in _STROKES[digit]:
        path = [(left + x * width, top + y * height) for x, y in _curve(np.array(stroke))]
        for here, there in pairwise(path):
            pen.line((here, there), fill=_INK, width=_PEN)
        for x, y in path:  # round joints and ends
            pen.ellipse((x - _PEN / 2, y - _PEN / 2, x + _PEN / 2, y + _PEN / 2), fill=_INK)
    light = np.linspace(0, 14, _SHEET[0])  # brighter to the right
    picture = np.clip(np.asarray(sheet) + light, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) points -> the Catmull-Rom curve through them, 12 points a piece."""
    ends = np.concatenate([points[:1], points, points[-1:]])
    at = np.linspace(0, 1, 12, endpoint=False)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * at + (2 * a - 5 * b + 4 * c - d) * at**2 + (3 * b - a - 3 * c + d) * at**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.concatenate([*pieces, points[-1:]])
