"""Files that are no readable picture: 24 kinds, each with the reason it must be refused for."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

Grey = np.ndarray[Any, Any]
Random = np.random.Generator


def corrupt_files(count: int, seed: int = 0) -> Iterator[tuple[str, bytes, str]]:
    """(kind, bytes, the reason it must be refused for), the kinds in turn."""
    random = np.random.default_rng(seed)
    kinds = list(KINDS.items())
    for number in range(count):
        kind, (reason, make) = kinds[number % len(kinds)]
        yield kind, make(random), reason


def sheet(random: Random, mode: str = "L") -> Image.Image:
    """A noisy page: nothing of it compresses away, so a file cut short lacks pixels."""
    side = int(random.integers(48, 96))
    return Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def cut(form: str, **options: Any) -> Callable[[Random], bytes]:
    """The first tenth to nine tenths of a file."""

    def make(random: Random) -> bytes:
        whole = encoded(sheet(random), form, **options)
        return whole[: int(len(whole) * random.uniform(0.1, 0.9))]

    return make


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, packed: bytes) -> bytes:
    """A PNG that promises anything. packed: what stands where the deflated rows should."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def bomb_side(random: Random) -> int:
    return int(random.integers(8_000, 13_300))


def png_bomb(random: Random) -> bytes:
    """Some kilobytes that would be up to 177 MB of grey."""
    side = bomb_side(random)
    squeeze = zlib.compressobj(9)
    row = bytes(1 + side)
    rows = b"".join(squeeze.compress(row) for _ in range(side // 8)) + squeeze.flush()
    return png(side, side, 8, 0, rows)


def gif_bomb(random: Random) -> bytes:
    """A small animation on a canvas of up to 65,535 pixels a side."""
    moving = bytearray(encoded(sheet(random), "GIF", save_all=True, append_images=[sheet(random)]))
    moving[6:10] = struct.pack("<HH", bomb_side(random), int(random.integers(10_000, 65_536)))
    return bytes(moving)


def bmp_bomb(random: Random) -> bytes:
    """A header that declares a picture far larger than the file."""
    whole = bytearray(encoded(sheet(random), "BMP"))
    whole[18:26] = struct.pack("<ii", bomb_side(random), bomb_side(random))
    return bytes(whole)


def tiff_bomb(random: Random) -> bytes:
    """Deflated black: a thousandth of what it would fill."""
    side = int(random.integers(4_900, 5_400))
    return encoded(Image.new("L", (side, side)), "TIFF", compression="tiff_adobe_deflate")


def webp_bomb(random: Random) -> bytes:
    """A lossless picture of 16,383 pixels a side, by its header."""
    side = 16_383 - int(random.integers(0, 1_000))
    whole = bytearray(encoded(sheet(random, "RGB"), "WEBP", lossless=True))
    assert whole[12:16] == b"VP8L"
    bits = (side - 1) | (side - 1) << 14 | (int.from_bytes(whole[21:25], "little") & 0xF0000000)
    whole[21:25] = bits.to_bytes(4, "little")
    return bytes(whole)


def wrong_checksum(random: Random) -> bytes:
    """The checksum of a PNG's header has one bit flipped."""
    whole = bytearray(encoded(sheet(random), "PNG"))
    whole[29 + int(random.integers(4))] ^= 1 << int(random.integers(8))
    return bytes(whole)


def garbled_rows(random: Random) -> bytes:
    """A sound PNG around rows that are no deflate stream."""
    side = int(random.integers(30, 90))
    return png(side, side, 8, 0, b"\xff" + random.bytes(side))


def no_palette(random: Random) -> bytes:
    """Indices into a palette that the file does not have."""
    side = int(random.integers(30, 90))
    return png(side, side, 8, 3, zlib.compress(b"".join(b"\0" + random.bytes(side) for _ in range(side))))


def as_text(random: Random) -> bytes:
    """A PNG that went through a transfer which took it for text."""
    return encoded(sheet(random), "PNG").replace(b"\r\n", b"\n")


def wrong_magic(random: Random) -> bytes:
    """A PNG of which the first byte is another."""
    whole = bytearray(encoded(sheet(random), "PNG"))
    whole[0] = int(random.integers(0x41, 0x80))
    return bytes(whole)


def archive(random: Random) -> bytes:
    """A zip with a sound picture in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("digit.png", encoded(sheet(random), "PNG"))
    return file.getvalue()


def not_numbers(random: Random) -> bytes:
    """A TIFF of floats, NaN and infinity among them."""
    levels = random.random((28, 28), np.float32)
    levels[random.integers(28), :] = np.nan
    levels[:, random.integers(28)] = np.inf
    return encoded(Image.fromarray(levels), "TIFF")


def deep(random: Random) -> bytes:
    """16 bits a pixel, of which the file does not say how many are filled."""
    return encoded(Image.fromarray(random.integers(0, 2**16, (40, 40)).astype(np.uint16)), "PNG")


def other_format(form: str, mode: str = "L") -> Callable[[Random], bytes]:
    """A sound picture of a format that is not taken."""
    return lambda random: encoded(sheet(random, mode), form)


def prose(random: Random) -> bytes:
    return " ".join(f"digit {number}" for number in random.integers(0, 10, 40)).encode()


# kind: (the reason it must be refused for, how one is made)
KINDS: dict[str, tuple[str, Callable[[Random], bytes]]] = {
    "no bytes": ("empty", lambda random: b""),
    "zeros": ("not_a_picture", lambda random: bytes(int(random.integers(1, 4000)))),
    "prose": ("not_a_picture", prose),
    "zip": ("not_a_picture", archive),
    "PDF": ("not_a_picture", other_format("PDF")),
    "ICO": ("not_a_picture", other_format("ICO")),
    "SPIDER": ("not_a_picture", other_format("SPIDER", "F")),
    "wrong magic": ("not_a_picture", wrong_magic),
    "PNG cut short": ("damaged", cut("PNG")),
    "JPEG cut short": ("damaged", cut("JPEG", quality=95)),
    "GIF cut short": ("damaged", cut("GIF")),
    "TIFF cut short": ("damaged", cut("TIFF")),
    "WebP cut short": ("damaged", cut("WEBP", lossless=True)),
    "wrong checksum": ("damaged", wrong_checksum),
    "garbled rows": ("damaged", garbled_rows),
    "no palette": ("damaged", no_palette),
    "sent as text": ("damaged", as_text),
    "PNG bomb": ("too_many_pixels", png_bomb),
    "TIFF bomb": ("too_many_pixels", tiff_bomb),
    "GIF bomb": ("too_many_pixels", gif_bomb),
    "WebP bomb": ("too_many_pixels", webp_bomb),
    "BMP bomb": ("too_many_pixels", bmp_bomb),
    "not numbers": ("unsupported_depth", not_numbers),
    "16 bits": ("unsupported_depth", deep),
}
