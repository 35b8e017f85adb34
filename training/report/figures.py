"""The notebook's figures: first digits, pairs as they are and as they are judged, and the distances of three digits.

They draw what they are given, and compute nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.arrays import Uint8
from training.report.plots import DOTS, INK, RIGHT, TRAINING, WRONG


@dataclass(frozen=True)
class Pair:
    """Two (28, 28) uint8 glyphs, whether their labels are the same, and how the pair was judged: None if it was not."""

    one: Uint8
    other: Uint8
    same: bool
    judged_same: bool | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Edge:
    """Two of the glyphs of a comparison, by position, and the distance of their embeddings."""

    one: int
    other: int
    distance: float


def first_glyphs(glyphs: Sequence[Uint8], labels: Sequence[int], path: Path) -> None:
    """Glyphs side by side, each under its label."""
    figure = Figure(figsize=(1.1 * len(glyphs), 1.4), dpi=DOTS, layout="constrained")
    for axes, glyph, label in zip(figure.subplots(1, len(glyphs), squeeze=False).flat, glyphs, labels, strict=True):
        _draw(axes, glyph)
        axes.set_title(str(label), fontsize=12, color=INK)
    figure.savefig(path)


def pair_sheet(pairs: Sequence[Pair], path: Path) -> None:
    """A column a pair, one glyph above the other, under what it is: in green or red if it was judged."""
    figure = Figure(figsize=(1.25 * len(pairs), 3.0), dpi=DOTS, layout="constrained")
    for (upper, lower), pair in zip(figure.subplots(2, len(pairs), squeeze=False).T, pairs, strict=True):
        _draw(upper, pair.one)
        _draw(lower, pair.other)
        colour = TRAINING if pair.judged_same is None else RIGHT if pair.judged_same == pair.same else WRONG
        upper.set_title(
            "same" if pair.same else "different",
            fontsize=9,
            style="italic",
            color="white",
            bbox={"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.35"},
        )
        if pair.distance is not None:
            lower.text(0.5, -0.06, f"{pair.distance:.3f}", transform=lower.transAxes, ha="center", va="top", color=INK)
    figure.savefig(path)


def comparison(glyphs: Sequence[Uint8], labels: Sequence[int], edges: Sequence[Edge], path: Path) -> None:
    """Glyphs in a row, and under them the distance of each two, drawn from one to the other."""
    count = len(glyphs)
    figure = Figure(figsize=(2.2 * count, 2.4 + 0.5 * len(edges)), dpi=DOTS, layout="constrained")
    grid = figure.add_gridspec(2, count, height_ratios=(2.2, 0.45 * len(edges)))
    for place, (glyph, label) in enumerate(zip(glyphs, labels, strict=True)):
        axes = figure.add_subplot(grid[0, place])
        _draw(axes, glyph)
        axes.set_title(str(label), fontsize=13, color=INK)
    lines = figure.add_subplot(grid[1, :])
    lines.set_axis_off()
    lines.set_xlim(-0.5, count - 0.5)
    lines.set_ylim(len(edges) - 0.4, -0.6)
    for height, edge in enumerate(edges):
        colour = RIGHT if labels[edge.one] == labels[edge.other] else WRONG
        lines.plot([edge.one, edge.other], [height, height], color=colour, marker="o", linewidth=2)
        middle = (edge.one + edge.other) / 2
        lines.text(middle, height - 0.12, f"{edge.distance:.4f}", ha="center", va="bottom", color=INK)
    figure.savefig(path)


def _draw(axes: Axes, glyph: Uint8) -> None:
    axes.imshow(glyph, cmap="Blues", vmin=0, vmax=255)
    axes.set_axis_off()
