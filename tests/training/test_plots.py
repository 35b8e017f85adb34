"""Plots show what they were given, and touch no global state of matplotlib."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from training.report.plots import MUTED, RIGHT, WRONG, Near, Row, neighbour_gallery, training_curve

GLYPH = np.zeros((28, 28), np.uint8)


def colours(path: Path) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(round(255 * share) for share in to_rgb(colour))


def gallery(path: Path, query: int | None, *neighbours: int | None) -> set[tuple[int, ...]]:
    neighbour_gallery([Row(GLYPH, query, [Near(GLYPH, label, 0.5) for label in neighbours])], path)
    return colours(path) & {rgb(RIGHT), rgb(WRONG), rgb(MUTED)}


def test_a_frame_says_whether_the_labels_agree(tmp_path: Path) -> None:
    path = tmp_path / "gallery.png"
    assert gallery(path, 7, 7) == {rgb(RIGHT)}
    assert gallery(path, 7, 1) == {rgb(WRONG)}
    assert gallery(path, 7, None) == gallery(path, None, 7) == {rgb(MUTED)}
    assert gallery(path, 7, 7, 1, None) == {rgb(RIGHT), rgb(WRONG), rgb(MUTED)}


def test_a_gallery_of_nothing_is_an_empty_plot(tmp_path: Path) -> None:
    neighbour_gallery([], tmp_path / "gallery.png")
    assert colours(tmp_path / "gallery.png") == {(255, 255, 255)}


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_curve_is_drawn_in_the_format_of_its_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"curve.{form}"
    training_curve({"loss": [0.3, 0.2], "val_loss": [0.4, 0.3], "binary_accuracy": [0.9, 0.95]}, path)
    assert path.read_bytes()[:5] == (b"\x89PNG\r" if form == "png" else b"<?xml")


def test_no_window_system_is_needed() -> None:
    program = "import sys, training.report.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
