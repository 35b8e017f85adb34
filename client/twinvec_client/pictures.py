"""What a caller may call a picture, and how it travels: nothing is decoded here but arrays."""

from __future__ import annotations

import io
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from twinvec_client.contract.limits import MAX_PICTURE_BYTES, SIDE
from twinvec_client.contract.messages import ENCODED, GLYPH, REFUSED
from twinvec_client.fields import Refusal

_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP")  # as Pillow names those that workers read
_TURNS = {  # by the orientation of EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BYTE = np.dtype(np.uint8)
_LEAST_INLINE = 64  # characters; no picture is shorter
# A picture's first bytes in base64: PNG, JPEG, GIF, WebP, TIFF of either order, BMP. Names of files have a dot.
_BASE64 = re.compile(r"\s*(?:iVBORw0KG|[/_]9j[/_]|R0lGOD|UklGR|SUkqA|TU0AK|Qk)[A-Za-z0-9+/_\s-]*=*\s*")


@dataclass(frozen=True, slots=True)
class Digit:
    """A picture with what is known of it, for streams that have no mapping of labels beside them."""

    picture: Any
    label: int | None = None
    attributes: dict[str, Any] | None = None


def encode(picture: Any) -> tuple[int, bytes | Refusal]:
    """A picture -> (GLYPH, 784 bytes), (ENCODED, file bytes) or (REFUSED, (reason, message)).

    28x28 uint8 arrays travel as they are. Other arrays become a PNG, paths the bytes of their file, data
    URLs and base64 travel as text, PIL images what
    their file would become: turned as their tags say, and grey. A picture that cannot be sent is refused, not raised:
    the rest of its job goes on, and `failures` lists it. So is an exception: what a reader met in a picture's place.
    """
    if isinstance(picture, np.ndarray):
        return _array(picture)
    if isinstance(picture, bytes | bytearray | memoryview):
        return _file(bytes(picture))
    if isinstance(picture, str) and _is_inline(picture):
        return _file(picture.encode())
    if isinstance(picture, str | os.PathLike):
        return _path(Path(picture))
    if isinstance(picture, Image.Image):
        return _image(picture)
    if isinstance(picture, Exception):
        return REFUSED, ("unreadable", str(picture))
    kind = type(picture).__name__
    return REFUSED, ("bad_picture", f"a {kind} is not a picture: give bytes, a path, an array or a PIL image")


def _is_inline(text: str) -> bool:
    """Whether a text is a picture itself, a data URL or base64, and not a path."""
    return text[:5].lower() == "data:" or (len(text) >= _LEAST_INLINE and _BASE64.fullmatch(text) is not None)


def _array(array: np.ndarray[Any, Any]) -> tuple[int, bytes | Refusal]:
    if array.shape == (SIDE, SIDE) and array.dtype == _BYTE:
        return GLYPH, array.tobytes()
    shape, dtype = array.shape, array.dtype
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not flat or 0 in shape:
        return REFUSED, (
            "bad_array",
            f"shape {shape}: expected (height, width), or 1, 3 or 4 channels as a third axis",
        )
    if dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(dtype, np.floating):
        if not np.isfinite(array).all():
            return REFUSED, ("bad_array", "holds NaN or infinity")
        if array.min() < 0 or array.max() > 1:
            return REFUSED, (
                "bad_array",
                f"{dtype} from {array.min():.3g} to {array.max():.3g}: floats must lie in 0..1",
            )
        array = np.round(array * 255).astype(np.uint8)
    elif np.issubdtype(dtype, np.integer):
        if array.min() < 0 or array.max() > 255:
            return REFUSED, (
                "bad_array",
                f"{dtype} from {array.min()} to {array.max()}: integers must lie in 0..255",
            )
        array = array.astype(np.uint8) * (255 if array.max() == 1 else 1)
    else:
        return REFUSED, ("bad_array", f"dtype {dtype}: expected uint8, bool, or floats in 0..1")
    if array.shape == (SIDE, SIDE):
        return GLYPH, array.tobytes()
    return _png(Image.fromarray(array.squeeze(axis=2) if array.ndim == 3 and shape[2] == 1 else array))


def _image(image: Image.Image) -> tuple[int, bytes | Refusal]:
    """A PIL image as the file that it was opened from, if it was not read yet; else as a grey PNG."""
    try:
        data = _untouched(image)
        return _file(data) if data is not None else _png(_grey(_upright(image)))
    except Exception as error:  # Pillow raises anything on an image it cannot read
        return REFUSED, ("bad_picture", f"cannot be written as PNG: {error}")


def _untouched(image: Image.Image) -> bytes | None:
    """The bytes of the file that an image was opened from and not read yet; None where it may have been changed."""
    if image.format not in _FORMATS or not isinstance(image, ImageFile.ImageFile) or image.tell() != 0:
        return None
    file = image.fp
    if not image.tile or file is None or file.closed:
        return None
    place = file.tell()
    try:
        file.seek(0)
        return file.read(MAX_PICTURE_BYTES + 1)
    finally:
        file.seek(place)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its tags say; they do not travel with its pixels."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # tags that nobody can read turn nothing; their parsers raise anything
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _grey(image: Image.Image) -> Image.Image:
    """The image as workers would make it grey, its transparency kept. ValueError where it has more than 8 bits."""
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # Windows leaves the fourth byte 0
    if image.has_transparency_data:
        return image.convert("RGBA").convert("LA")
    if image.mode == "LAB":
        return image.getchannel("L")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"its mode is {image.mode}; convert it to 8 bits with the range you mean")
    return image if image.mode == "L" else image.convert("L")


def _png(image: Image.Image) -> tuple[int, bytes | Refusal]:
    file = io.BytesIO()
    try:
        image.save(file, "PNG", compress_level=1)
    except Exception as error:  # Pillow raises anything on an image it cannot write
        return REFUSED, ("bad_picture", f"cannot be written as PNG: {error}")
    return _file(file.getvalue())


def _path(path: Path) -> tuple[int, bytes | Refusal]:
    name = f"{os.fspath(path)!r:.200}"  # quoted: not every path is text
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe may have no end
            return REFUSED, ("unreadable", f"{name} is not a file")
        # The size before reading: it may be a disk image.
        return _too_large(found.st_size) if found.st_size > MAX_PICTURE_BYTES else _file(path.read_bytes())
    except OSError as error:
        return REFUSED, ("unreadable", f"{name}: {error.strerror}")
    except ValueError as error:  # NUL, or half a character
        return REFUSED, ("unreadable", f"{name}: {error}")


def _file(data: bytes) -> tuple[int, bytes | Refusal]:
    return _too_large(len(data)) if len(data) > MAX_PICTURE_BYTES else (ENCODED, data)


def _too_large(size: int) -> tuple[int, Refusal]:
    return REFUSED, ("too_many_bytes", f"{size:,} bytes: at most {MAX_PICTURE_BYTES:,} are taken")
