"""Drawings on nothing and paper with transparent parts show their digit, whatever the pens and the format."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.field.making import ink_of, likeness, outcome, written
from training.arrays import Float32, Uint8
from training.pictures.read import read_picture


def canvas(level: Uint8 | int, alpha: Float32) -> Image.Image:
    """(h, w) level 0..255 and alpha in 0..1, as a canvas sends them."""
    opacity = np.rint(255 * alpha.clip(0, 1)).astype(np.uint8)
    grey = np.broadcast_to(np.asarray(level, np.uint8), opacity.shape)
    return Image.fromarray(np.stack([grey, grey, grey, opacity], axis=-1), "RGBA")


def striped(levels: tuple[int, ...], shape: tuple[int, ...]) -> Uint8:
    """A pen that changes its shade from row to row, five times over the picture."""
    bands = np.arange(shape[0]) * 5 // shape[0]
    return np.repeat(np.asarray(levels, np.uint8)[bands % len(levels)][:, None], shape[1], axis=1)


def made_transparent(ink: Float32, colour: int) -> Image.Image:
    """A grey picture on paper of `colour`, which its file then calls transparent."""
    image = Image.fromarray(np.rint(colour + (255 - 2 * colour) * ink).astype(np.uint8))
    image.info["transparency"] = colour
    return image


def made_transparent_in_colour(ink: Float32, pens: tuple[int, ...]) -> Image.Image:
    """Pens of several shades on white, where every white pixel was then made transparent."""
    level = 255 - (255 - striped(pens, ink.shape).astype(np.float32)) * ink
    return canvas(np.rint(level).astype(np.uint8), (np.rint(level) < 255).astype(np.float32))


def palette(ink: Float32) -> Image.Image:
    """16 colours, of which that of the paper is transparent."""
    image = Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8)).convert("RGB").quantize(16)
    image.info["transparency"] = image.getpixel((0, 0))
    return image


DRAWINGS: dict[str, Callable[[Float32], Image.Image]] = {
    "black": lambda ink: canvas(0, ink),
    "white": lambda ink: canvas(255, ink),
    "two pens": lambda ink: canvas(striped((0, 150), ink.shape), ink),
    "a black and a white pen": lambda ink: canvas(striped((0, 255), ink.shape), ink),
    "five pens": lambda ink: canvas(striped((0, 60, 120, 180, 240), ink.shape), ink),
    "half transparent": lambda ink: canvas(0, ink * np.float32(110 / 255)),
    "hardly opaque, hard edges": lambda ink: canvas(90, (ink > 0.5) * np.float32(0.3)),
    "hard edges": lambda ink: canvas(40, (ink > 0.5).astype(np.float32)),
    "white made transparent": lambda ink: made_transparent(ink, 255),
    "black made transparent": lambda ink: made_transparent(ink, 0),
    "white made transparent, two pens": lambda ink: made_transparent_in_colour(ink, (0, 140)),
    "palette": palette,
    "large": lambda ink: canvas(0, ink).resize((1500, 1500), Image.Resampling.BICUBIC),
    "white made transparent, large": lambda ink: made_transparent(ink, 255).resize((1500, 1500)),
}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_strokes_on_nothing_show_their_digit(digits: Uint8, drawing: str) -> None:
    for digit in digits:
        ink = ink_of(digit)
        image = DRAWINGS[drawing](ink)
        assert likeness(read_picture(written(image)), digit) > 0.8


@pytest.mark.parametrize("angle", [0, 10, 45])
@pytest.mark.parametrize("paper", [255, 200, 0])
def test_paper_on_nothing_is_read_by_its_own_colour(digits: Uint8, angle: int, paper: int) -> None:
    for digit in digits[::2]:
        ink = ink_of(digit)
        level = np.rint(paper + (255 * (paper < 128) - paper) * ink).astype(np.uint8)
        sheet = canvas(level, np.ones_like(ink)).rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
        upright = Image.fromarray(digit).rotate(angle, resample=Image.Resampling.BICUBIC)
        wide = Image.new("RGBA", (sheet.width + 80, sheet.height + 80))
        wide.paste(sheet, (40, 40))
        wanted = read_picture(written(upright.resize((112, 112), Image.Resampling.BICUBIC)))
        assert likeness(read_picture(written(wide)), wanted) > 0.85


def test_an_empty_canvas_is_blank() -> None:
    assert outcome(written(Image.new("RGBA", (200, 200)))) == "blank"
    assert outcome(written(canvas(0, np.full((200, 200), 0.02, np.float32)))) == "blank"


def test_a_digit_cut_out_of_a_sheet_is_seen(digits: Uint8) -> None:
    for digit in digits[::2]:
        assert likeness(read_picture(written(canvas(60, 1 - ink_of(digit)))), digit) > 0.85
