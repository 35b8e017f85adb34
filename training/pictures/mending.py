"""Files whose pixels are sound and that Pillow refuses, made such as it reads; pictures that came as text.

It knows bytes alone. What is mended was refused first: a sound file is never looked at here.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from urllib.parse import unquote_to_bytes

from training.errors import PictureError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
END = b"\xff\xd9"  # JPEG's marker
OTHER_BITS = bytes(range(1, 255)) * 4  # no marker of a JPEG begins in them

CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
USED = {b"tRNS", b"eXIf"}  # of the other chunks of a PNG; what they say changes what is seen

# A picture's first bytes in base64: PNG, JPEG, GIF, WebP, TIFF of either order, BMP.
BASE64 = re.compile(rb"\s*(?:iVBORw0KG|[/_]9j[/_]|R0lGOD|UklGR|SUkqA|TU0AK|Qk)[A-Za-z0-9+/_\s-]*=*\s*")

OTHERS = (  # what is sent as a picture and is not read
    ("HEIC", re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)),
    ("AVIF", re.compile(rb"....ftypavi", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("PNM", re.compile(rb"P[1-7]\s")),
    ("an icon (ICO)", re.compile(rb"\x00\x00\x01\x00")),
    ("SVG", re.compile(rb"\s*(?:<\?xml.{0,500}|<!--.{0,500})?<svg", re.DOTALL)),
    ("PDF", re.compile(rb"%PDF-")),
    ("Photoshop's format", re.compile(rb"8BPS")),
)


def unwrapped(data: bytes) -> bytes:
    """The file in a data URL, or in base64 alone; other bytes as they are. PictureError if it cannot be unwrapped."""
    if data[:5].lower() == b"data:":
        header, comma, body = data.partition(b",")
        if not comma:
            raise PictureError("not_a_picture", "This is a data URL without data. Send what follows its comma.")
        plain = unquote_to_bytes(body)
        return from_base64(plain) if header.lower().endswith(b";base64") else plain
    return from_base64(data) if BASE64.fullmatch(data) else data


def from_base64(text: bytes) -> bytes:
    """The bytes, of either alphabet, with or without padding. PictureError `damaged`."""
    text = b"".join(text.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise PictureError("damaged", f"Its base64 cannot be decoded: {error}. Send an intact copy.") from error


def other_format(data: bytes) -> str | None:
    """The name of a format that is known and not read."""
    return next((name for name, start in OTHERS if start.match(data)), None)


def without_needless_chunks(png: bytes) -> bytes | None:
    """A PNG of what its pixels need alone; None where nothing can be left out.

    A wrong checksum, or a megabyte, in a chunk that nobody needs is left out with it. One of a chunk that is needed is
    kept, and refused by the decoder.
    """
    kept, place, left_out = [PNG], len(PNG), False
    while place + 12 <= len(png):
        length, name = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        end = place + 12 + length
        if name in CRITICAL or (name in USED and is_intact(png[place + 4 : end])):
            kept.append(png[place:end])
        else:
            left_out = True
        place = end
        if name == b"IEND":
            break
    return b"".join(kept) if left_out else None


def is_intact(chunk: bytes) -> bool:
    """Whether name and content of a PNG's chunk have the checksum that follows them."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def with_end_marker(jpeg: bytes) -> tuple[bytes, bytes] | None:
    """A JPEG that lacks its end marker, with one, and the same with other bits before it; None where it has one.

    If all pixels are there, both are decoded to the same: what follows the last pixel is passed over. If some lack,
    the other bits are taken for theirs.
    """
    if jpeg.rstrip(b"\0").endswith(END):
        return None
    whole = jpeg.rstrip(b"\xff")
    return whole + END, whole + OTHER_BITS + END
