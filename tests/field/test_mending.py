"""What every viewer shows is read: files whose pixels are sound, and pictures that come as text."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.field.making import ink_of, likeness, outcome, written
from training.arrays import Uint8
from training.errors import PictureError
from training.pictures.read import read_picture
from twinvec_client.contract.messages import ENCODED
from twinvec_client.pictures import encode


def page(digit: Uint8) -> Image.Image:
    return Image.fromarray(np.rint(255 * (1 - ink_of(digit))).astype(np.uint8))


def chunk(name: bytes, body: bytes, *, wrong: int = 0) -> bytes:
    """A PNG's chunk, its checksum off by `wrong`."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ wrong)


def with_chunk(extra: bytes, image: Image.Image) -> bytes:
    """A PNG with a chunk after its header."""
    whole = written(image)
    return whole[:33] + extra + whole[33:]


PNGS: dict[str, bytes] = {
    name: chunk(kind, body, wrong=1)
    for name, kind, body in (
        ("pHYs", b"pHYs", bytes(9)),
        ("text", b"tEXt", b"Title\0a digit"),
        ("time", b"tIME", bytes(7)),
        ("profile", b"iCCP", b"p\0\0" + zlib.compress(bytes(500))),
        ("chunk of nobody", b"abCd", b"?"),
        ("tRNS", b"tRNS", b"\0\xff"),
    )
} | {
    "3 MB of profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000))),
    "3 MB of text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
    "a profile that is none": chunk(b"iCCP", b"p\0\0" + b"junk"),
}


@pytest.mark.parametrize("extra", PNGS)
def test_a_chunk_that_nobody_needs_may_be_bad(digits: Uint8, extra: str) -> None:
    for digit in digits[::4]:
        assert np.array_equal(read_picture(with_chunk(PNGS[extra], page(digit))), read_picture(written(page(digit))))


def test_what_is_needed_is_kept_beside_a_bad_chunk(digits: Uint8) -> None:
    strokes = Image.fromarray(np.rint(255 * ink_of(digits[6])).astype(np.uint8))
    canvas = Image.merge("LA", [Image.new("L", strokes.size), strokes])
    assert likeness(read_picture(with_chunk(PNGS["time"], canvas)), digits[6]) > 0.85
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = written(page(digits[6]).transpose(Image.Transpose.ROTATE_180), exif=exif)
    assert likeness(read_picture(turned[:33] + PNGS["time"] + turned[33:]), digits[6]) > 0.85


def test_a_wrong_checksum_of_what_is_needed_is_damage(digits: Uint8) -> None:
    whole = bytearray(written(page(digits[0])))
    whole[30] ^= 1  # of the header
    assert outcome(bytes(whole)) == "damaged"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("side", [28, 152, 2500])
def test_a_jpeg_without_its_end_marker_is_read(digits: Uint8, progressive: bool, cut: int, side: int) -> None:
    for digit in digits[::4]:
        whole = written(page(digit).resize((side, side)), "JPEG", progressive=progressive)
        assert np.array_equal(read_picture(whole[:-cut]), read_picture(whole))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_damaged(digits: Uint8, progressive: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 20, (152, 152))
    for digit in digits[::4]:
        photograph = np.clip(200 * (1 - ink_of(digit)) + noise, 0, 255).astype(np.uint8)
        whole = written(photograph, "JPEG", progressive=progressive)
        for share in (0.3, 0.6, 0.9):
            assert outcome(whole[: int(share * len(whole))]) == "damaged"
        assert outcome(whole[:-40]) == "damaged"


def test_tags_that_cannot_be_read_turn_nothing_and_a_good_one_beside_them_does(digits: Uint8) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = (1, 2)
    turned = page(digits[4]).transpose(Image.Transpose.ROTATE_90)
    rational = exif.tobytes()
    for bad in (rational.replace(struct.pack(">II", 1, 2), struct.pack(">iI", -1, 0)), rational[:-4]):
        assert likeness(read_picture(written(turned, "JPEG", exif=bad, quality=95)), digits[4]) > 0.85
    upright = written(page(digits[4]), "JPEG", exif=b"Exif\0\0" + b"junk" * 9, quality=95)
    assert likeness(read_picture(upright), digits[4]) > 0.85


def bmp32(image: Image.Image) -> bytes:
    """32 bits a pixel with a mask for alpha, and alpha 0 everywhere, as Windows writes them."""
    grey = np.asarray(image)[::-1]
    pixels = np.stack([grey, grey, grey, np.zeros_like(grey)], axis=-1).tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, *image.size, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks
    header += bytes(124 - len(header))
    return struct.pack("<2sIHHI", b"BM", 14 + 124 + len(pixels), 0, 0, 14 + 124) + header + pixels


def test_a_bmp_whose_fourth_bytes_are_all_0_is_opaque(digits: Uint8) -> None:
    for digit in digits[::4]:
        assert np.array_equal(read_picture(bmp32(page(digit))), read_picture(written(page(digit))))


TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "data URL": lambda file: b"data:image/png;base64," + base64.b64encode(file),
    "data URL with parameters": lambda file: b"DATA:image/png;name=a.png;BASE64," + base64.b64encode(file),
    "data URL in percents": lambda file: b"data:image/png," + quote_from_bytes(file).encode(),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64 for URLs": lambda file: base64.urlsafe_b64encode(file).rstrip(b"="),
}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_picture_as_text_is_read_whether_bytes_or_a_string(digits: Uint8, text: str, form: str) -> None:
    file = written(page(digits[4]), form)
    wanted = read_picture(file)
    assert np.array_equal(read_picture(TEXTS[text](file)), wanted)
    kind, content = encode(TEXTS[text](file).decode())
    assert kind == ENCODED
    assert isinstance(content, bytes)
    assert np.array_equal(read_picture(content), wanted)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"P5\n2 2\n255\n0000", "PNM"),
        (b'<?xml version="1.0"?><svg></svg>', "SVG"),
        (b"data:image/svg+xml,%3Csvg%3E%3C/svg%3E", "SVG"),
        (b"%PDF-1.7", "PDF"),
    ],
    ids=repr,
)
def test_a_format_that_is_not_read_is_named(data: bytes, name: str) -> None:
    with pytest.raises(PictureError, match=name) as refused:
        read_picture(data)
    assert refused.value.reason == "not_a_picture"


@pytest.mark.parametrize("data", [b"data:image/png;base64", b"data:,", b"data:image/png;base64,", b"data:;base64,%%%"])
def test_a_data_url_without_a_picture_is_refused(data: bytes) -> None:
    assert outcome(data) in {"not_a_picture", "empty", "damaged"}


def test_a_text_chunk_beside_sound_pixels_is_no_reason_to_look_twice(digits: Uint8) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a digit")
    assert np.array_equal(read_picture(written(page(digits[0]), pnginfo=text)), read_picture(written(page(digits[0]))))
