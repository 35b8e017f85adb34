"""Pictures that cost their reader more than their bytes say. Made here, from nothing that is stored."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def drawn(side: int, *, ink: int = 0, paper: int = 255, digit: str = "4") -> Image.Image:
    """A grey picture with a printed digit."""
    image = Image.new("L", (side, side), paper)
    font = ImageFont.load_default(size=side * 0.6)
    ImageDraw.Draw(image).text((side / 2, side / 2), digit, fill=ink, font=font, anchor="mm")
    return image


def written(image: Image.Image, format: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def jpeg_of_scans(count: int, side: int = 1000) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = written(drawn(side), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[last:end] * (count - whole.count(b"\xff\xda")) + whole[end:]


def large_jpeg(scans: int | None = None, side: int = 4898, most: int = 10 * 2**20) -> bytes:
    """A progressive JPEG of 24 million pixels and as many scans as `most` bytes hold, or `scans`: of little, each."""
    whole = written(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    more = (most - len(whole)) // (end - last) if scans is None else scans - whole.count(b"\xff\xda")
    return whole[:end] + whole[last:end] * more + whole[end:]


def fax(side: int = 256, digit: str = "4", seed: int = 0) -> bytes:
    """A digit on light grey, dithered to one bit: thousands of specks that are paper."""
    paper = drawn(side, paper=200, digit=digit)
    noise = np.random.default_rng(seed).normal(0, 6, (side, side))
    grey = np.clip(np.asarray(paper, np.float32) + noise, 0, 255).astype(np.uint8)
    return written(Image.fromarray(grey).convert("1"), "PNG")


def dots(side: int = 256) -> bytes:
    """A dot on every second pixel."""
    grey = np.full((side, side), 255, np.uint8)
    grey[::2, ::2] = 0
    return written(Image.fromarray(grey), "PNG")


def empty_webp(side: int = 4898) -> bytes:
    """24 million transparent pixels in a few bytes."""
    return written(Image.new("RGBA", (side, side), (0, 0, 0, 0)), "WEBP", lossless=True)


def tiff_of_one_tile(side: int, *, picture: int = 64) -> bytes:
    """A small grey TIFF in a deflated tile of so many pixels a side, white but for a stroke."""
    white = b"\xff" * side
    inked = white[:28] + bytes(8) + white[36:]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    blocks = [packer.compress(row * 32) + packer.flush(zlib.Z_FULL_FLUSH) for row in (inked, white)]
    tile = b"\x78\xda" + blocks[0] + blocks[1] * (side // 32 - 1) + packer.flush()
    tags = {256: picture, 257: picture, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0, 325: len(tile)}
    tags[324] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4) + tile
