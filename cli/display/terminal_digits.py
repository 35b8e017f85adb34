"""Digits drawn in a terminal, two pixels to a character. It must not know where they come from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console, Group
from rich.style import Style
from rich.text import Text

_SHADES = " ░▒▓█"  # from no ink to full ink, where the terminal has no colours


def side_by_side(glyphs: Mapping[str, NDArray[np.uint8]], console: Console) -> Columns:
    """(28, 28) uint8 glyphs, light on dark, each under its name."""
    coloured = console.color_system is not None
    draw = _coloured if coloured else _shaded
    return Columns([Group(Text(name, style="dim"), draw(glyph)) for name, glyph in glyphs.items()], padding=(0, 4))


def _coloured(glyph: NDArray[np.uint8]) -> Text:
    text = Text()
    for upper, lower in zip(glyph[::2], glyph[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=f"rgb({above},{above},{above})", bgcolor=f"rgb({below},{below},{below})"))
        text.append("\n")
    return text


def _shaded(glyph: NDArray[np.uint8]) -> Text:
    levels = (glyph[::2].astype(int) + glyph[1::2]) * len(_SHADES) // 511  # (14, 28)
    return Text("\n".join("".join(_SHADES[level] for level in row) for row in levels))
