"""The bytes of image files -> 28x28 uint8 glyphs; a bad one is refused with its reason.

It knows Pillow and arrays, and must not know Keras: intake runs without it.
"""

import warnings
from functools import cache
from importlib import import_module
from io import BytesIO

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError, features

from training.arrays import SIDE, Uint8
from training.errors import PictureError
from training.pictures.deadline import too_costly
from training.pictures.mending import (
    JPEG,
    PNG,
    other_format,
    unwrapped,
    with_end_marker,
    without_needless_chunks,
)
from training.pictures.normalise import is_set_like_mnist
from training.pictures.reading import set_like_mnist
from training.pictures.transparency import filled

MAX_BYTES = 10 * 2**20
MAX_PIXELS = 24_000_000  # a phone's photograph; 72 MB when decoded in colour
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")

MAX_SCANS = 100  # of a JPEG, which decodes each over all of its pixels; encoders write about ten
DRAFT_SIDE = 1024  # pixels; a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, but not below this
BITS_PER_SAMPLE = 258  # the TIFF tag
ORIENTATION = ExifTags.Base.Orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(
    data: bytes, *, normalise: bool = True, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Uint8:
    """The bytes of an encoded picture -> (28, 28) uint8.

    A data URL and base64 are read as what they hold. Normalised to MNIST's form (see `normalise`), unless it is 28x28
    and already has that form: then it is taken byte for byte. With `normalise=False` only made grey and resized, its
    polarity kept. Bytes are counted before the picture is opened, and pixels before it is decoded. Of an animation the
    first frame is read.

    Raises PictureError and nothing else, for any bytes.
    """
    if not data:
        raise PictureError("empty", "The picture has no bytes. Write the file again, and read it from its start.")
    if len(data) > max_bytes:
        raise PictureError(
            "too_many_bytes",
            f"The picture has {len(data):,} bytes; at most {max_bytes:,} are read. Send a smaller one.",
        )
    try:
        return as_glyph(decode(data, max_pixels), normalise=normalise)
    except (MemoryError, cv2.error) as error:
        if not lacks_memory(error):
            raise
        raise too_large() from error


def as_glyph(grey: Uint8, *, normalise: bool) -> Uint8:
    """(h, w) -> (28, 28), as `read_picture`."""
    if not normalise:
        return grey if grey.shape == (SIDE, SIDE) else resized(grey)
    if grey.shape == (SIDE, SIDE) and is_set_like_mnist(grey):
        return grey
    return set_like_mnist(grey)


def decode(data: bytes, max_pixels: int) -> Uint8:
    """Encoded bytes -> (h, w) uint8 grey, upright, transparency filled; mended where the pixels are sound."""
    data = unwrapped(data)
    if not data:
        raise PictureError("empty", "The text holds no picture. Encode the file again.")
    try:
        return decode_as_it_is(data, max_pixels)
    except PictureError as error:
        mended = None if error.reason != "damaged" else decode_mended(data, max_pixels)
        if mended is None:
            raise
        return mended


def decode_mended(data: bytes, max_pixels: int) -> Uint8 | None:
    """What every viewer shows of a damaged file, if no pixel lacks."""
    try:
        if data.startswith(PNG) and (png := without_needless_chunks(data)) is not None:
            return decode_as_it_is(png, max_pixels)
        if data.startswith(JPEG) and (jpegs := with_end_marker(data)) is not None:
            one, other = (decode_as_it_is(jpeg, max_pixels) for jpeg in jpegs)
            return one if np.array_equal(one, other) else None
    except PictureError:
        return None
    return None


def decode_as_it_is(data: bytes, max_pixels: int) -> Uint8:
    """Encoded bytes -> (h, w) uint8 grey. PictureError where Pillow cannot read them."""
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            return to_grey(open_image(data, max_pixels))
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_many_pixels("more pixels than any reader accepts", max_pixels) from None
    except UnidentifiedImageError as error:
        name = other_format(data)
        if data.startswith(SIGNATURES) or also_read(name):
            raise damaged("its header is incomplete") from error
        fault = "These bytes are not a picture" if name is None else f"This is {name}, which is not read"
        if name == "HEIC" and not has_heif():
            fault += " here: the workers lack the package pillow-heif (the extra `heic`)"
        raise PictureError("not_a_picture", f"{fault}. Send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.") from None
    except Exception as error:  # Pillow's readers raise any error of their parsers, SyntaxError included
        raise (too_large() if lacks_memory(error) else damaged(str(error) or type(error).__name__)) from error


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in the bytes, of which only the header is decoded; its limits and depth are checked."""
    formats = FORMATS if data.startswith(SIGNATURES) else (*FORMATS, *also_read(other_format(data)))
    image = Image.open(BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > max_pixels:
        raise too_many_pixels(f"{width:,} x {height:,} pixels", max_pixels)
    bits = bits_per_channel(image, data)
    if bits > 8:
        raise PictureError(
            "unsupported_depth",
            f"The picture has {bits} bits per channel, of which files fill different parts. "
            "Convert it to 8 bits with the range you mean.",
        )
    if image.format == "JPEG" and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise too_costly(f"it has {scans:,} scans, and {MAX_SCANS} are decoded at most")
    image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    return image


def also_read(name: str | None) -> tuple[str, ...]:
    """The Pillow format of what phones write, where it can be read: AVIF by most builds of Pillow, HEIC by an extra."""
    if name == "AVIF" and features.check("avif"):
        return ("AVIF",)
    if name == "HEIC" and has_heif():
        return ("HEIF",)
    return ()


@cache
def has_heif() -> bool:
    """Whether pillow-heif is installed. It is loaded with the first picture that needs it."""
    try:
        pillow_heif = import_module("pillow_heif")
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def bits_per_channel(image: Image.Image, data: bytes) -> int:
    """The depth of the file; Pillow would cut 16-bit colour to 8 bits silently."""
    if image.mode in ("I", "F"):
        return 32
    if image.format == "PNG" and data[12:16] == b"IHDR":
        return data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits: tuple[int, ...] = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
        return max(bits)
    return 16 if image.mode.startswith("I;") else 8


def to_grey(image: Image.Image) -> Uint8:
    """Any picture -> (h, w) uint8, turned as its EXIF or XMP says."""
    image.load()
    if image.info or image.format != "PNG":  # a PNG without `info` has no EXIF
        image = upright(image)
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # Windows leaves the fourth byte 0
    if image.has_transparency_data:
        return filled(np.asarray(image.convert("RGBA").convert("LA")))
    if image.mode == "LAB":
        return np.asarray(image.getchannel("L"))
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its tags say. `ImageOps.exif_transpose` writes them anew, and fails with any bad one."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # tags that nobody can read turn nothing; their parsers raise anything
        return image
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def resized(grey: Uint8) -> Uint8:
    """(h, w) -> (28, 28), its aspect not kept."""
    return np.array(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def lacks_memory(error: Exception) -> bool:
    """Whether a decoder says so: each has words of its own for it, and Pillow's TIFF a number."""
    return isinstance(error, MemoryError) or "memory" in str(error).lower() or str(error) == "decoder error -9"


def too_large() -> PictureError:
    return too_costly("it takes more memory than there is for one")


def damaged(fault: str) -> PictureError:
    return PictureError("damaged", f"The picture cannot be decoded: {fault}. Send an intact copy.")


def too_many_pixels(size: str, max_pixels: int) -> PictureError:
    return PictureError(
        "too_many_pixels", f"The picture has {size}; at most {max_pixels:,} are decoded. Scale it down."
    )
