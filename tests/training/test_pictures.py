"""Image files become glyphs; bad ones are refused with their reason, for any bytes."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from training.arrays import Uint8
from training.data.dataset import Dataset
from training.errors import PictureError
from training.pictures.components import find_components
from training.pictures.read import FORMATS, MAX_BYTES, MAX_PIXELS, read_picture

unhurried = settings(deadline=None)  # a busy machine is not a failure


def encoded(picture: Uint8 | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    """A PNG made by hand, of any promise."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def enlarged(digit: Uint8, side: int) -> Uint8:
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def off_by(one: Uint8, other: Uint8) -> float:
    """The mean difference of two glyphs in grey levels; a centre that was rounded the other way does not count."""
    moved = [np.roll(one.astype(int), (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(float(np.abs(image - other).mean()) for image in moved)


def reason_of(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(PictureError) as refused:
        read_picture(data, max_bytes=max_bytes, max_pixels=max_pixels)
    assert str(refused.value).endswith(".")
    return refused.value.reason


@pytest.fixture(scope="session")
def digits(sample: Dataset) -> Uint8:
    return np.concatenate([sample.train_images, sample.test_images])


@pytest.fixture(scope="session")
def five(digits: Uint8) -> Uint8:
    first: Uint8 = digits[0]
    return first


def test_an_mnist_digit_comes_through_byte_for_byte(digits: Uint8) -> None:
    for digit in digits:
        assert np.array_equal(read_picture(encoded(digit)), digit)


def test_an_inverted_mnist_digit_comes_back(digits: Uint8) -> None:
    off = [off_by(read_picture(encoded(255 - digit)), digit) for digit in digits]
    assert np.mean(off) < 3
    assert np.percentile(off, 95) < 6


@unhurried
@given(
    index=st.integers(0, 1099),
    side=st.integers(40, 150),
    margins=st.tuples(*[st.integers(0, 200)] * 4),
    ink=st.integers(0, 100),
    paper=st.integers(150, 255),
    dark_on_light=st.booleans(),
)
def test_size_place_polarity_and_contrast_do_not_matter(
    digits: Uint8,
    index: int,
    side: int,
    margins: tuple[int, int, int, int],
    ink: int,
    paper: int,
    dark_on_light: bool,
) -> None:
    top, bottom, left, right = margins
    assume(len(find_components(digits[index] > 0).stats) == 1)  # dirt is left out of a large picture and not of a small
    share = np.pad(enlarged(digits[index], side), ((top, bottom), (left, right))) / 255
    picture = paper + (ink - paper) * share if dark_on_light else ink + (paper - ink) * share
    expected = read_picture(encoded(enlarged(digits[index], 100)))
    assert off_by(read_picture(encoded(picture.astype(np.uint8))), expected) < 25


@pytest.mark.parametrize("inset", [0, 10])
@pytest.mark.parametrize("thickness", [1, 3, 12])
def test_a_frame_around_the_digit_is_left_out(digits: Uint8, inset: int, thickness: int) -> None:
    off = []
    for digit in digits[:40]:
        paper = np.pad(enlarged(digit, 100), 12)
        framed = np.pad(np.pad(paper, thickness, constant_values=255), inset)
        off.append(off_by(read_picture(encoded(255 - framed)), read_picture(encoded(255 - paper))))
    assert np.median(off) < 2
    assert np.mean(np.array(off) < 10) > 0.9


def test_a_shaded_noisy_photograph_shows_the_same_digit(digits: Uint8) -> None:
    random = np.random.default_rng(0)
    down, across = np.mgrid[-1:1:160j, -1:1:160j]
    off = []
    for digit in digits[:40]:
        share = np.pad(enlarged(digit, 100), 30) / 255
        photograph = 160 + 45 * down - 40 * across - 70 * share + random.normal(0, 5, share.shape)
        jpeg = encoded(photograph.clip(0, 255).astype(np.uint8), "JPEG", quality=75)
        off.append(off_by(read_picture(jpeg), digit))
    assert np.median(off) < 10


def test_a_small_digit_on_a_large_sheet_keeps_its_detail(digits: Uint8) -> None:
    off = []
    for digit in digits[:20]:
        small = enlarged(digit, 60)
        sheet = np.pad(small, ((1500, 440), (300, 1640)))
        off.append(off_by(read_picture(encoded(sheet)), read_picture(encoded(small))))
    assert np.median(off) < 5


def test_dirt_beside_the_digit_is_left_out(digits: Uint8) -> None:
    for digit in digits[:10]:
        clean = np.pad(enlarged(digit, 100), 30)
        dirty = clean.copy()
        dirty[5:8, 5:8] = dirty[150, 80:83] = 255
        assert off_by(read_picture(encoded(dirty)), read_picture(encoded(clean))) < 1


def test_a_hair_line_is_still_seen() -> None:
    sheet = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(sheet).ellipse((50, 50, 350, 350), outline=0, width=1)
    glyph = read_picture(encoded(sheet))
    assert glyph[5:24].max(axis=1).min() > 200


def test_without_normalising_nothing_is_inverted_or_moved(five: Uint8) -> None:
    assert np.array_equal(read_picture(encoded(255 - five), normalise=False), 255 - five)
    larger = encoded(np.full((100, 300), 200, np.uint8))
    assert np.array_equal(read_picture(larger, normalise=False), np.full((28, 28), 200, np.uint8))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read(five: Uint8, form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    large = 255 - enlarged(five, 100)
    assert off_by(read_picture(encoded(large, form, **options)), read_picture(encoded(large))) < 2


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image.convert("1", dither=Image.Dither.NONE),
        lambda image: image.convert("RGB"),
        lambda image: image.convert("RGBA"),
        lambda image: image.convert("LA"),
        lambda image: image.convert("RGB").quantize(16),
    ],
    ids=["1-bit", "RGB", "RGBA", "LA", "palette"],
)
def test_every_mode_shows_the_same_digit(five: Uint8, convert: Callable[[Image.Image], Image.Image]) -> None:
    image = Image.fromarray(255 - enlarged(five, 100))
    assert off_by(read_picture(encoded(convert(image))), read_picture(encoded(image))) < 10


def test_print_colours_show_the_same_digit(five: Uint8) -> None:
    image = Image.fromarray(255 - enlarged(five, 100))
    assert off_by(read_picture(encoded(image.convert("CMYK"), "TIFF")), read_picture(encoded(image))) < 1


@pytest.mark.parametrize("colour", [0, 90, 255])
def test_strokes_on_nothing_are_seen_whatever_their_colour(five: Uint8, colour: int) -> None:
    strokes = enlarged(five, 100)
    picture = np.stack([np.full_like(strokes, colour), strokes], axis=-1)
    assert off_by(read_picture(encoded(Image.fromarray(picture, "LA"))), read_picture(encoded(strokes))) < 1


def test_paper_with_transparent_corners_is_read_by_its_own_colour(five: Uint8) -> None:
    paper = np.pad(255 - enlarged(five, 100), 20, constant_values=255)
    alpha = np.full_like(paper, 255)
    alpha[:20, :20] = alpha[-20:, -20:] = 0
    rounded = encoded(Image.fromarray(np.stack([paper, alpha], axis=-1), "LA"))
    assert off_by(read_picture(rounded), read_picture(encoded(paper))) < 1


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WebP"])
def test_a_photograph_is_turned_as_its_camera_was(five: Uint8, format: str) -> None:
    upright = Image.fromarray(255 - enlarged(five, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it right by a quarter
    turned = encoded(upright.transpose(Image.Transpose.ROTATE_90), format, exif=exif, quality=95)
    assert off_by(read_picture(turned), read_picture(encoded(upright))) < 2


def test_the_first_frame_of_an_animation_counts(five: Uint8) -> None:
    frames = [Image.fromarray(enlarged(five, 60)), Image.new("L", (60, 60), 255)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert off_by(read_picture(moving), read_picture(encoded(frames[0]))) < 1


def test_no_bytes_are_empty() -> None:
    assert reason_of(b"") == "empty"


def test_too_many_bytes_are_counted_before_they_are_opened() -> None:
    assert reason_of(b"not a picture at all", max_bytes=16) == "too_many_bytes"


@pytest.mark.parametrize("side", [1001, 10_000, 20_000])
def test_too_many_pixels_are_counted_before_they_are_decoded(side: int) -> None:
    # Decoding this would fail otherwise: it holds no pixels.
    assert reason_of(png(side, side, 8, 0, b""), max_pixels=1_000_000) == "too_many_pixels"


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"<svg></svg>", b"\0" * 100], ids=repr)
def test_what_is_not_a_picture_is_called_so(data: bytes) -> None:
    assert reason_of(data) == "not_a_picture"


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_picture_is_damaged(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    whole = encoded(noise, form)
    assert reason_of(whole[: len(whole) // 2]) == "damaged"


def test_any_error_of_the_decoder_means_damage(five: Uint8) -> None:
    data = bytearray(encoded(five))
    data[11] = 1  # the length of the header, over which Pillow raises no OSError
    assert reason_of(bytes(data)) == "damaged"


@pytest.mark.parametrize(
    "data",
    [
        png(28, 28, 16, 0, bytes(28 * (1 + 28 * 2))),
        png(28, 28, 16, 2, bytes(28 * (1 + 28 * 6))),
        encoded(Image.fromarray(np.zeros((28, 28), np.uint16)), "TIFF"),
        encoded(Image.fromarray(np.zeros((28, 28), np.float32)), "TIFF"),
    ],
    ids=["grey PNG", "colour PNG", "grey TIFF", "float TIFF"],
)
def test_deep_pictures_are_refused_instead_of_cut(data: bytes) -> None:
    assert reason_of(data) == "unsupported_depth"


@pytest.mark.parametrize(
    "picture",
    [
        np.full((28, 28), 255, np.uint8),
        np.zeros((300, 200), np.uint8),
        np.zeros((1, 1), np.uint8),
        np.random.default_rng(0).normal(240, 2, (200, 200)).astype(np.uint8),
        np.zeros((50, 50, 4), np.uint8),
    ],
    ids=["white", "black", "one pixel", "scanned paper", "transparent"],
)
def test_paper_without_ink_is_blank(picture: Uint8) -> None:
    assert reason_of(encoded(picture)) == "blank"


@unhurried
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of the damage too
@unhurried
@given(st.data())
def test_any_damage_is_read_or_refused(digits: Uint8, data: st.DataObject) -> None:
    whole = bytearray(encoded(enlarged(digits[0], 40), data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@unhurried
@given(st.data())
def test_any_pixels_become_a_glyph_or_are_blank(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    seed, levels = data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([2, 3, 256]))
    picture = np.random.default_rng(seed).integers(0, levels, shape) * (255 // (levels - 1))
    read_or_refuse(encoded(picture.astype(np.uint8)), {"blank"})


def test_noise_without_a_stroke_is_blank() -> None:
    noise = np.random.default_rng(11).integers(0, 256, (5, 5)).astype(np.uint8)
    read_or_refuse(encoded(noise), {"blank"})


def read_or_refuse(data: bytes, reasons: set[str] | None = None) -> None:
    """Fails on any other outcome than a glyph or a PictureError."""
    try:
        glyph = read_picture(data, max_pixels=1_000_000)
    except PictureError as error:
        assert reasons is None or error.reason in reasons
    else:
        assert glyph.shape == (28, 28)
        assert glyph.dtype == np.uint8
        assert glyph.any()


def test_pictures_and_data_are_read_without_keras() -> None:
    program = (
        "import sys, training.pictures.sandbox, training.data.files; "
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
