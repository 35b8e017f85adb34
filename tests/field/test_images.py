"""The same picture gives the same glyph by its path, its bytes and as a PIL image."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.field.making import ink_of, likeness, written
from training.arrays import Uint8
from training.pictures.read import TURNS, read_picture
from twinvec_client.contract.messages import ENCODED, REFUSED
from twinvec_client.pictures import encode

BACK = {turn: turn for turn in TURNS.values()} | {
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
}


def drawn(digit: Uint8) -> Image.Image:
    """A digit on white paper, in colour, blue on yellowish."""
    ink = ink_of(digit)[..., None]
    return Image.fromarray(np.rint((255, 250, 225) * (1 - ink) + (20, 30, 120) * ink).astype(np.uint8))


def strokes(digit: Uint8) -> Image.Image:
    """The same on nothing."""
    image = drawn(digit)
    image.putalpha(Image.fromarray(np.rint(255 * ink_of(digit)).astype(np.uint8)))
    return image


def sent(picture: Any) -> Uint8:
    """The glyph that a worker makes of what the client sends."""
    kind, content = encode(picture)
    assert kind == ENCODED
    assert isinstance(content, bytes)
    return read_picture(content)


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "XMP"])
def test_an_image_is_turned_as_its_file_says(digits: Uint8, tmp_path: Path, form: str, orientation: int) -> None:
    upright = drawn(digits[8])
    turned = upright.transpose(BACK[TURNS[orientation]])
    if form == "XMP":
        data = written(turned, "JPEG", quality=95, xmp=xmp(orientation))
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = written(turned, form, exif=exif, **({} if form in ("PNG", "TIFF") else {"quality": 95}))
    path = tmp_path / "digit"
    path.write_bytes(data)
    loaded = Image.open(BytesIO(data))
    loaded.load()
    glyphs = [sent(given) for given in (data, path, Image.open(path), Image.open(BytesIO(data)))]
    assert likeness(glyphs[0], read_picture(written(upright))) > 0.98
    assert all(np.array_equal(glyph, glyphs[0]) for glyph in glyphs)
    assert likeness(sent(loaded), glyphs[0]) > 0.99  # a JPEG's own grey is rounded otherwise


MODES: dict[str, tuple[str, Callable[[Uint8], Image.Image]]] = {
    "RGB": ("PNG", drawn),
    "grey": ("PNG", lambda digit: drawn(digit).convert("L")),
    "one bit": ("PNG", lambda digit: drawn(digit).convert("1", dither=Image.Dither.NONE)),
    "palette": ("PNG", lambda digit: drawn(digit).quantize(16)),
    "CMYK": ("TIFF", lambda digit: drawn(digit).convert("CMYK")),
    "CMYK of a JPEG": ("JPEG", lambda digit: drawn(digit).convert("CMYK")),
    "LAB": ("TIFF", lambda digit: Image.merge("LAB", [drawn(digit).convert("L")] * 3)),
    "YCbCr": ("TIFF", lambda digit: drawn(digit).convert("YCbCr")),
    "strokes": ("PNG", strokes),
    "grey strokes": ("PNG", lambda digit: strokes(digit).convert("LA")),
    "strokes of a WebP": ("WEBP", strokes),
    "large": ("JPEG", lambda digit: drawn(digit).resize((3000, 3000))),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_glyph_by_bytes_and_as_an_image(digits: Uint8, mode: str) -> None:
    form, make = MODES[mode]
    for digit in digits[::3]:
        data = written(make(digit), form)
        loaded = Image.open(BytesIO(data))
        loaded.load()
        by_bytes = sent(data)
        assert likeness(by_bytes, digit) > 0.85
        assert np.array_equal(sent(Image.open(BytesIO(data))), by_bytes)
        if mode == "large":  # by bytes, its decoder reduces it: the 20 pixels may be rounded to one more or one less
            assert likeness(sent(loaded), by_bytes) > 0.9
        else:
            assert np.array_equal(sent(loaded), by_bytes)


def test_what_was_done_to_an_image_is_not_undone(digits: Uint8) -> None:
    image = Image.open(BytesIO(written(drawn(digits[8]))))
    turned = read_picture(written(drawn(digits[8]).transpose(Image.Transpose.ROTATE_90)))
    assert np.array_equal(sent(image.transpose(Image.Transpose.ROTATE_90)), turned)
    second = written(drawn(digits[8]), "TIFF", save_all=True, append_images=[drawn(digits[2])])
    pages = Image.open(BytesIO(second))
    pages.seek(1)
    assert likeness(sent(pages), digits[2]) > 0.85


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_an_image_of_more_than_8_bits_is_refused_as_its_file_is(mode: str) -> None:
    kind, content = encode(Image.new(mode, (28, 28), 7))
    assert kind == REFUSED
    assert isinstance(content, tuple)
    assert content[0] == "bad_picture"
    assert "8 bits" in content[1]
