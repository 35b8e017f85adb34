"""Glyphs on the wire: Zstandard at its fastest useful level makes a fifth of a digit's 784 bytes of mostly paper.

Without it, moving the bytes through the broker costs more than storing them.
"""

from __future__ import annotations

import zstandard

from twinvec_client.contract.limits import GLYPH_BYTES
from twinvec_client.contract.messages import BadMessage

_LEVEL = 1
PACKED_BYTES = 200  # of a handwritten digit, about


def pack(glyphs: bytes) -> bytes:
    """784 bytes a glyph -> a Zstandard frame that says how long it was."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(glyphs)


def unpack(frame: bytes, count: int) -> bytes:
    """A frame of exactly `count` glyphs -> 784 bytes each. Raises BadMessage; nothing longer is ever unpacked."""
    size = count * GLYPH_BYTES
    try:
        if zstandard.frame_content_size(frame) != size:
            raise BadMessage(f"the glyphs of a chunk do not unpack to {count} of {GLYPH_BYTES} bytes")
        glyphs = zstandard.ZstdDecompressor(max_window_size=2**27).decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise BadMessage(f"the glyphs of a chunk cannot be unpacked: {error}") from error
    if len(glyphs) != size:
        raise BadMessage(f"the glyphs of a chunk unpack to {len(glyphs)} bytes: {count} of {GLYPH_BYTES} were expected")
    return glyphs
