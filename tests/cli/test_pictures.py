"""Digits drawn for people: in the terminal, and as pen strokes for the demo."""

import numpy as np
import pytest
from rich.console import Console

from cli.demo import strokes
from cli.display.neighbours import captioned, shown_distance, verdict, warning
from cli.display.terminal_digits import Captioned, sheet, side_by_side
from training.pictures.read import read_picture
from twinvec_client import Answer, Match, Neighbour


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


def test_a_terminal_that_is_to_show_no_colours_has_shades() -> None:
    glyph = np.full((28, 28), 255, np.uint8)
    assert "█" * 28 in shown(glyph, color_system="truecolor", force_terminal=True, no_color=True)


def sheet_of(*captions: Captioned, width: int = 80, **terminal: object) -> list[str]:
    console = Console(width=width, **{"color_system": None, **terminal})  # type: ignore[arg-type]  # as above
    with console.capture() as capture:
        console.print(sheet(captions, console))
    return capture.get().splitlines()


def block(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    glyph = np.zeros((28, 28), np.uint8)
    glyph[top:bottom, left:right] = 255
    return glyph


def test_a_sheet_fills_the_terminal_and_goes_on_below() -> None:
    lines = sheet_of(*(Captioned(block(4, 24, 4, 24), [f"digit {at}"]) for at in range(5)), width=80)
    assert all(len(line) <= 80 for line in lines)
    assert [line.split() for line in lines if "digit" in line] == [
        ["digit", "0", "digit", "1", "digit", "2"],
        ["digit", "3", "digit", "4"],
    ]
    assert sum("█" * 20 in line for line in lines) == 2 * 10  # two rows of ten lines, the paper around cut off


def test_no_ink_is_cut_off_whatever_is_beside_it() -> None:
    corners = [block(0, 2, 0, 2), block(26, 28, 26, 28), block(12, 16, 12, 16)]
    lines = sheet_of(*(Captioned(glyph, ["-"]) for glyph in corners), width=200)
    assert sum(line.count("█") for line in lines) == sum(int((glyph > 0).sum()) for glyph in corners) // 2


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_a_long_caption_is_folded_under_its_picture(width: int) -> None:
    key = "a/very/long/path/of/a/scanned/cheque/17-3.png"
    lines = sheet_of(*(Captioned(block(4, 24, 6, 22), [key]) for _ in range(3)), width=width)
    assert all(len(line) <= max(width, 16) for line in lines)
    assert "".join("".join(lines).split()).count("17-3.png") == 3 or width == 10


def test_a_digit_without_a_picture_keeps_its_place() -> None:
    (line,) = [
        line for line in sheet_of(Captioned(None, ["one"]), Captioned(block(4, 24, 6, 22), ["two"])) if "one" in line
    ]
    assert line.split() == ["one", "two"]


def answer(*distances: float, threshold: float | None = 0.5, usual: float | None = None) -> Answer:
    found = [Neighbour(f"[{at}]", "scans", apart, 7, None, bytes(784)) for at, apart in enumerate(distances)]
    return Answer("ab" * 32, True, 3, 0.1, found, None, threshold, usual)


def test_a_warning_says_that_the_nearest_is_farther_than_the_threshold() -> None:
    assert warning(answer(0.5, 0.6)) is None
    assert warning(answer()) is None
    assert warning(answer(0.9, threshold=None)) is None
    told = warning(answer(0.51))
    assert told is not None
    assert "0.5100" in told
    assert "0.5000" in told


def test_a_warning_says_that_the_nearest_is_farther_than_that_of_most_digits() -> None:
    assert warning(answer(0.15, usual=0.15)) is None
    told = warning(answer(0.16, usual=0.15))
    assert told is not None
    assert "0.1500 of 99 %" in told
    assert "threshold" in (warning(answer(0.6, usual=0.15)) or "")


def test_a_neighbour_is_told_by_label_distance_collection_and_key() -> None:
    (neighbour,) = answer(0.25)
    lines = sheet_of(captioned(neighbour))
    text = " ".join(" ".join(lines).split())
    assert "7 0.2500" in text
    assert "scans: [0]" in text  # not taken for markup


@pytest.mark.parametrize(
    ("distance", "text"), [(0.0, "0.0000"), (0.25, "0.2500"), (2.74e-5, "2.7e-05"), (12.0, "12.0000")]
)
def test_a_distance_shows_its_first_digits(distance: float, text: str) -> None:
    assert shown_distance(distance) == text


def test_a_verdict_says_what_was_elected_and_how_sure_it_is() -> None:
    assert "no match" in verdict(Match(matched=False, label=None, probability=None, voters=3))
    assert "no label" in verdict(Match(matched=True, label=None, probability=None, voters=0))
    assert "0.9876" in verdict(Match(matched=True, label=7, probability=0.98761, voters=3))
    assert "before" in verdict(Match(matched=True, label=7, probability=None, voters=1))


@pytest.mark.parametrize("digit", strokes.DIGITS)
def test_a_drawn_digit_becomes_a_light_one_in_the_middle(digit: int) -> None:
    glyph = read_picture(strokes.png(digit)).astype(float)
    assert glyph.shape == (28, 28)
    centre = (glyph.sum(axis=1) @ np.arange(28) / glyph.sum(), glyph.sum(axis=0) @ np.arange(28) / glyph.sum())
    assert centre == pytest.approx((13.5, 13.5), abs=1.5)
    assert 0.02 < glyph.mean() / 255 < 0.4
