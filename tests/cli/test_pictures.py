"""Digits drawn for people: in the terminal, and as pen strokes for the demo."""

import numpy as np
import pytest
from rich.console import Console

from cli.demo import strokes
from cli.display.terminal_digits import side_by_side
from training.pictures.read import read_picture


def shown(glyph: np.ndarray, **terminal: object) -> str:
    console = Console(width=200, **terminal)  # type: ignore[arg-type]  # the test's own choice of options
    with console.capture() as capture:
        console.print(side_by_side({"digit": glyph}, console))
    return capture.get()


def test_without_colours_ink_is_a_full_block_and_paper_a_space() -> None:
    glyph = np.zeros((28, 28), np.uint8)
    glyph[:14] = 255
    lines = shown(glyph, color_system=None).splitlines()
    assert lines[0].strip() == "digit"
    assert [line[:28] for line in lines[1:8]] == ["█" * 28] * 7
    assert "█" not in "".join(lines[8:])


def test_with_colours_every_pixel_has_its_grey() -> None:
    glyph = np.full((28, 28), 77, np.uint8)
    assert "38;2;77;77;77" in shown(glyph, color_system="truecolor", force_terminal=True)


@pytest.mark.parametrize("digit", strokes.DIGITS)
def test_a_drawn_digit_becomes_a_light_one_in_the_middle(digit: int) -> None:
    glyph = read_picture(strokes.png(digit)).astype(float)
    assert glyph.shape == (28, 28)
    centre = (glyph.sum(axis=1) @ np.arange(28) / glyph.sum(), glyph.sum(axis=0) @ np.arange(28) / glyph.sum())
    assert centre == pytest.approx((13.5, 13.5), abs=1.5)
    assert 0.02 < glyph.mean() / 255 < 0.4
