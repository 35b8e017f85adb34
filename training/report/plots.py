"""Plots of a training and of the nearest neighbours under its tower. They compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.arrays import Uint8

INK = "#1f2933"
MUTED = "#7b8794"
TRAINING, TEST = "#2a6f97", "#e07a3f"
RIGHT, WRONG = "#2f9e6e", "#d64545"
DOTS = 150  # per inch


@dataclass(frozen=True)
class Near:
    """A neighbour as it is shown: (28, 28) uint8 glyph, its label if it has one, its distance."""

    glyph: Uint8
    label: int | None
    distance: float


@dataclass(frozen=True)
class Row:
    """A query: its glyph, its label if it has one, and its neighbours, nearest first."""

    glyph: Uint8
    label: int | None
    neighbours: Sequence[Near]


def training_curve(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Loss and pair accuracy by epoch, of the training and the test pairs, to a file of `path`'s format.

    history: as Keras's `fit` gives it, `loss` and `binary_accuracy`, each with its `val_` twin.
    """
    figure = Figure(figsize=(9, 3.6), dpi=DOTS, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    draw_curves(loss, history, "loss", "Contrastive loss")
    draw_curves(accuracy, history, "binary_accuracy", "Pair accuracy")
    loss.set_ylim(bottom=0)
    accuracy.legend(frameon=False, labelcolor=INK, loc="lower right")
    figure.savefig(path)


def neighbour_gallery(rows: Sequence[Row], path: Path) -> None:
    """One row a query: its glyph, then its neighbours with label and distance, to a file of `path`'s format.

    Frames are green if the labels agree, red if they do not and grey if one is unknown.
    """
    columns = 1 + max((len(row.neighbours) for row in rows), default=0)
    lines = max(len(rows), 1)
    figure = Figure(figsize=(1.15 * columns + 0.4, 1.35 * lines + 0.3), dpi=DOTS, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for place in grid.flat:
        place.set_axis_off()
    for line, row in zip(grid, rows, strict=False):
        draw_glyph(line[0], row.glyph, INK, "" if row.label is None else str(row.label), "Blues")
        for place, near in zip(line[1:], row.neighbours, strict=False):
            label = "?" if near.label is None else near.label
            draw_glyph(place, near.glyph, frame_of(row.label, near.label), f"{label}   {near.distance:.3f}", "Greys")
    figure.savefig(path)


def draw_curves(axes: Axes, history: Mapping[str, Sequence[float]], name: str, title: str) -> None:
    """One measure of the training and of the test pairs, by epoch."""
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


def draw_glyph(axes: Axes, glyph: Uint8, frame: str, title: str, colours: str) -> None:
    """A glyph in a frame, under its title."""
    axes.set_axis_on()
    axes.imshow(glyph, cmap=colours, vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, color=frame)
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=2.5)


def frame_of(label: int | None, neighbour: int | None) -> str:
    """The colour that says whether the labels agree."""
    if label is None or neighbour is None:
        return MUTED
    return RIGHT if label == neighbour else WRONG
