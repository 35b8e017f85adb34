"""Charts as SVG, whose colours are the page's: they follow it from light to dark. They compute nothing but places.

A chart is 360 units wide, so that its letters are as large as the page's own on a phone of 390 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from training.report.facts import Histogram, Layer, Plane

WIDTH = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 34  # units around what is plotted


class _Axes:
    """Where values lie on a chart of a height; x to the right, y upwards."""

    def __init__(self, height: int, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.height, self.x_range, self.y_range = height, x, y

    def x(self, value: float) -> float:
        least, most = self.x_range
        return round(_LEFT + (value - least) / max(most - least, 1e-12) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        least, most = self.y_range
        room = self.height - _TOP - _BOTTOM
        return round(self.height - _BOTTOM - (value - least) / max(most - least, 1e-12) * room, 1)

    def grid(self, *, x_label: str, whole: bool = False, percent: bool = False) -> Iterable[str]:
        """Lines and numbers at round values, and what lies along x."""
        floor = self.height - _BOTTOM
        for value in ticks(*self.y_range, 4):
            shown = f"{value:.3g} %" if percent else f"{value:.3g}"
            yield f'<path class="grid" d="M{_LEFT} {self.y(value)}H{WIDTH - _RIGHT}"/>'
            yield f'<text class="tick" x="{_LEFT - 5}" y="{self.y(value) + 3.5}" text-anchor="end">{shown}</text>'
        for value in ticks(*self.x_range, 6):
            if not whole or value == round(value):
                yield f'<text class="tick" x="{self.x(value)}" y="{floor + 14}" text-anchor="middle">{value:.3g}</text>'
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield f'<text class="tick" x="{middle}" y="{floor + 29}" text-anchor="middle">{escape(x_label)}</text>'


def ticks(least: float, most: float, count: int) -> list[float]:
    """About so many round numbers from `least` to `most`."""
    span = max(most - least, 1e-12)
    step = 10.0 ** np.floor(np.log10(span / count))
    step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= count), 10)
    return [round(float(at * step), 10) for at in range(int(np.ceil(least / step - 1e-9)), int(most / step + 1e-9) + 1)]


def curves(named: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Values by epoch, a line each; the first is drawn as training, the second as test."""
    values = [value for line in named.values() for value in line]
    count = max(map(len, named.values()), default=0)
    least, most = min(values, default=0.0), max(values, default=1.0)
    if least < 0.4 * most:
        least = 0.0  # a loss is seen against zero, an accuracy near one is not
    margin = 0.05 * max(most - least, 1e-6)
    axes = _Axes(190, (1, max(count, 2)), (least - margin if least else 0.0, most + margin))
    parts = [*axes.grid(x_label="epoch", whole=True)]
    for kind, line in zip(("training", "test"), named.values(), strict=False):
        points = " ".join(f"{axes.x(at)},{axes.y(value)}" for at, value in enumerate(line, 1))
        parts.append(f'<polyline class="line {kind}" points="{points}"/>')
        parts += [
            f'<circle class="dot {kind}" cx="{axes.x(at)}" cy="{axes.y(value)}" r="2.6"/>'
            for at, value in enumerate(line, 1)
        ]
    return svg(parts, 190, title)


def histogram(found: Histogram, threshold: float, *, title: str) -> str:
    """The distances of same and of different pairs, as shares of each kind, and the threshold as a line."""
    most = 100 * max(float(found.same[1:].max()), float(found.different.max()), 1e-3)
    axes = _Axes(210, (float(found.edges[0]), float(found.edges[-1])), (0.0, most * 1.06))
    parts = [*axes.grid(x_label="distance", percent=True)]
    for kind, shares in (("different", found.different), ("same", found.same)):
        steps = [f"M{axes.x(float(found.edges[0]))} {axes.y(0)}"]
        for edge, share in zip(found.edges[1:].tolist(), (100 * shares).tolist(), strict=True):
            steps.append(f"V{axes.y(min(share, most * 1.06))}H{axes.x(edge)}")
        parts.append(f'<path class="area {kind}" d="{"".join(steps)}V{axes.y(0)}Z"/>')
    at = axes.x(threshold)
    anchor = "start" if at < WIDTH / 2 else "end"
    beside = at + 4 if anchor == "start" else at - 4
    parts.append(f'<path class="threshold" d="M{at} {_TOP}V{210 - _BOTTOM}"/>')
    parts.append(
        f'<text class="said" x="{beside}" y="{_TOP + 9}" text-anchor="{anchor}">threshold {threshold:.3f}</text>'
    )
    return svg(parts, 210, title)


def plane(found: Plane, *, title: str) -> str:
    """A dot a vector, in its label's colour, the same scale both ways; each label's name at its median."""
    height, margin = 320, 14
    least, most = found.places.min(axis=0), found.places.max(axis=0)
    room = np.array([WIDTH - 2 * margin, height - 2 * margin], np.float64)
    scale = float((room / np.maximum(most - least, 1e-12)).min())
    places = (found.places - (least + most) / 2) * scale * (1, -1) + (WIDTH / 2, height / 2)
    labels = np.array(found.labels)
    parts = []
    for label in np.unique(labels).tolist():
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places[labels == label].tolist())
        parts.append(f'<path class="dots c{label % 10}" d="{dots}"/>')
    for label in np.unique(labels).tolist():
        x, y = np.median(places[labels == label], axis=0).tolist()
        parts.append(f'<text class="name" x="{x:.1f}" y="{y + 6:.1f}" text-anchor="middle">{label}</text>')
    return svg(parts, height, title)


def architecture(layers: Sequence[Layer], *, pixels: int, drawn: bool, title: str) -> str:
    """Inputs on top, the layers that they share, and what their embeddings come to."""
    line, width = 22, WIDTH - 20
    box = 30 + line * len(layers)
    embedding = "\N{MULTIPLICATION SIGN}".join(map(str, layers[-1].shape)) if layers else ""
    inputs = ("one image", "the other") if drawn else ("a batch of images",)
    centres = [WIDTH * (2 * at + 1) / (2 * len(inputs)) for at in range(len(inputs))]
    parts = []
    for centre, name in zip(centres, inputs, strict=True):
        parts += _box(centre - 75, 6, 150, 34, name, f"{pixels} pixels")
        parts.append(_arrow(centre, 40, 62))
        parts.append(_arrow(centre, 62 + box, 84 + box))
    parts.append(f'<rect class="box shared" x="10" y="62" width="{width}" height="{box}" rx="6"/>')
    shared = "the tower: both twins share its weights" if drawn else "the tower"
    parts.append(f'<text class="tick" x="{WIDTH / 2}" y="78" text-anchor="middle">{shared}</text>')
    for at, layer in enumerate(layers):
        y = 62 + 24 + line * at + 15
        shape = "\N{MULTIPLICATION SIGN}".join(map(str, layer.shape))
        weights = f"{layer.weights:,} weights" if layer.weights else ""
        parts.append(f'<text class="layer" x="20" y="{y}">{escape(layer.kind)}</text>')
        parts.append(f'<text class="layer" x="215" y="{y}" text-anchor="end">{shape}</text>')
        parts.append(f'<text class="layer dim" x="{WIDTH - 20}" y="{y}" text-anchor="end">{weights}</text>')
    top = 84 + box
    distance = "of the two embeddings" if drawn else "of each two embeddings"
    parts += _box(30, top, WIDTH - 60, 34, "Euclidean distance", f"{distance}, {embedding} numbers each")
    parts.append(_arrow(WIDTH / 2, top + 34, top + 56))
    parts += _box(30, top + 56, WIDTH - 60, 34, "contrastive loss", "same pulls, different pushes up to a margin")
    return svg(parts, top + 96, title)


def _box(x: float, y: float, width: float, height: float, name: str, about: str) -> list[str]:
    middle = x + width / 2
    return [
        f'<rect class="box" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="6"/>',
        f'<text class="layer" x="{middle:.1f}" y="{y + 14}" text-anchor="middle">{escape(name)}</text>',
        f'<text class="tick" x="{middle:.1f}" y="{y + 27}" text-anchor="middle">{escape(about)}</text>',
    ]


def _arrow(x: float, top: float, bottom: float) -> str:
    return f'<path class="arrow" d="M{x:.1f} {top}V{bottom - 1}m-4 -5l4 5l4 -5"/>'


def svg(parts: Iterable[str], height: float, title: str) -> str:
    """A figure that is as wide as its place."""
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">{inside}</svg>'
