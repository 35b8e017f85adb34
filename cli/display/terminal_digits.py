"""Digits drawn in a terminal, two pixels to a character. It must not know where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

Glyph = NDArray[np.uint8]  # (28, 28), light on dark

SIDE = 28
_SHADES = " ░▒▓█"  # from no ink to full ink, where the terminal has no colours
_INK = 32  # of 255: fainter is paper
_GAP = 2  # columns between two digits
_NARROWEST = 16  # columns of a digit: its caption must fit as well


class Captioned(NamedTuple):
    """A glyph, and the lines below it as rich markup. None: there is no picture of it."""

    glyph: Glyph | None
    lines: Sequence[str]


class _Box(NamedTuple):
    """The part of glyphs that is drawn: rows and columns from and to."""

    top: int
    bottom: int
    left: int
    right: int


def sheet(shown: Sequence[Captioned], console: Console) -> Table:
    """Glyphs with their captions, as many side by side as the terminal is wide; paper around all of them is cut off.

    A line that is wider than its glyph is folded.
    """
    box = _shared_box([each.glyph for each in shown if each.glyph is not None])
    width = box.right - box.left
    columns = min(max(1, (console.width + _GAP) // (width + _GAP)), len(shown))
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 1, 0))
    for _ in range(columns):
        grid.add_column(width=width, overflow="fold")
    for start in range(0, len(shown), columns):
        grid.add_row(*(_captioned(each, box, console) for each in shown[start : start + columns]))
    return grid


def _captioned(each: Captioned, box: _Box, console: Console) -> Group:
    if each.glyph is None:
        picture = Text("\n".join([" "] * ((box.bottom - box.top) // 2)))
    else:
        picture = _drawn(each.glyph[box.top : box.bottom, box.left : box.right], console)
    return Group(picture, *(Text.from_markup(line, emoji=False, overflow="fold") for line in each.lines))


def _shared_box(glyphs: Sequence[Glyph]) -> _Box:
    """Around the ink of all glyphs: an even number of rows, since a character is two, and room for a caption."""
    rows, columns = np.any([glyph >= _INK for glyph in glyphs] or [np.zeros((SIDE, SIDE), np.bool_)], axis=0).nonzero()
    if not len(rows):
        return _Box(0, SIDE, 0, SIDE)
    top, bottom = int(rows.min()) // 2 * 2, (int(rows.max()) + 2) // 2 * 2
    middle, half = (int(columns.min()) + int(columns.max()) + 1) // 2, _NARROWEST // 2
    left, right = min(int(columns.min()), max(middle - half, 0)), max(int(columns.max()) + 1, middle + half)
    return _Box(top, bottom, left, min(right, SIDE))


def side_by_side(glyphs: Mapping[str, Glyph], console: Console) -> Columns:
    """(28, 28) uint8 glyphs, light on dark, each under its name."""
    named = [Group(Text(name, style="dim"), _drawn(glyph, console)) for name, glyph in glyphs.items()]
    return Columns(named, padding=(0, 4))


def _drawn(glyph: Glyph, console: Console) -> Text:
    plain = console.color_system is None or console.no_color
    return _shaded(glyph) if plain else _coloured(glyph)


def _coloured(glyph: Glyph) -> Text:
    text = Text()
    for upper, lower in zip(glyph[::2], glyph[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=f"rgb({above},{above},{above})", bgcolor=f"rgb({below},{below},{below})"))
        text.append("\n")
    text.rstrip()
    return text


def _shaded(glyph: Glyph) -> Text:
    levels = (glyph[::2].astype(int) + glyph[1::2]) * len(_SHADES) // 511  # (h / 2, w)
    return Text("\n".join("".join(_SHADES[level] for level in row) for row in levels))
