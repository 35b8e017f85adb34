"""Pictures of a training and of what its tower finds near to what. It draws what it is given, and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Glyph = np.ndarray[Any, Any]

INK = "#1f2933"
MUTED = "#7b8794"
TRAINING, TEST = "#2a6f97", "#e07a3f"
RIGHT, WRONG = "#2f9e6e", "#d64545"
DOTS = 150  # per inch


@dataclass(frozen=True)
class Near:
    """A neighbour as it is shown: (28, 28) uint8 glyph, its label if it has one, its distance."""

    glyph: Glyph
    label: int | None
    distance: float


@dataclass(frozen=True)
class Row:
    """A glyph that was asked for, the label it is known to have if any, and what was found, nearest first."""

    glyph: Glyph
    label: int | None
    neighbours: Sequence[Near]


def training_curve(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Loss and pair accuracy by epoch, of the training and the test pairs, to a file of `path`'s format.

    history: as Keras's `fit` gives it, `loss` and `binary_accuracy`, each with its `val_` twin.
    """
    figure = Figure(figsize=(9, 3.6), dpi=DOTS, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    curves(loss, history, "loss", "Contrastive loss")
    curves(accuracy, history, "binary_accuracy", "Pair accuracy")
    loss.set_ylim(bottom=0)
    accuracy.legend(frameon=False, labelcolor=INK, loc="lower right")
    figure.savefig(path)


def neighbour_gallery(rows: Sequence[Row], path: Path) -> None:
    """One row a query: its glyph, then its nearest with label and distance, framed green where the labels agree, red
    where they do not and grey where one is unknown. To a file of `path`'s format."""
    columns = 1 + max((len(row.neighbours) for row in rows), default=0)
    lines = max(len(rows), 1)
    figure = Figure(figsize=(1.15 * columns + 0.4, 1.35 * lines + 0.3), dpi=DOTS, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for place in grid.flat:
        place.set_axis_off()
    for line, row in zip(grid, rows, strict=False):
        show(line[0], row.glyph, INK, "" if row.label is None else str(row.label), "Blues")
        for place, near in zip(line[1:], row.neighbours, strict=False):
            label = "?" if near.label is None else near.label
            show(place, near.glyph, frame_of(row.label, near.label), f"{label}   {near.distance:.3f}", "Greys")
    figure.savefig(path)


def curves(axes: Axes, history: Mapping[str, Sequence[float]], name: str, title: str) -> None:
    """One measure of training and test, each named at its line."""
    for key, colour, label in ((name, TRAINING, "training pairs"), (f"val_{name}", TEST, "test pairs")):
        values = history.get(key, ())
        axes.plot(range(1, len(values) + 1), values, color=colour, marker="o", markersize=4, label=label)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel("epoch", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=MUTED, alpha=0.2)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def show(axes: Axes, glyph: Glyph, frame: str, title: str, colours: str) -> None:
    """A glyph in a frame, under its title."""
    axes.set_axis_on()
    axes.imshow(glyph, cmap=colours, vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, color=frame)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=2.5)


def frame_of(asked: int | None, found: int | None) -> str:
    """The colour of agreement, of disagreement, or of not knowing."""
    if asked is None or found is None:
        return MUTED
    return RIGHT if asked == found else WRONG
