"""A child process that decodes pictures, so that one that crashes the decoder does not crash a worker.

`python -m training.pictures.sandbox_process` reads pictures from its input and writes a glyph or a refusal for each, in
order, until the input ends. If it dies, the picture that was not answered is the one that killed it.

A request is a byte (1: normalise) and a length in four bytes, big-endian, then the picture. An answer is a byte,
GLYPH or REFUSAL, and a length, then 784 pixels, or the reason code, a NUL and the message.
"""

from __future__ import annotations

import resource
import struct
import sys
import warnings
from contextlib import suppress
from typing import BinaryIO

from training.errors import PictureError
from training.pictures.deadline import deadline
from training.pictures.read import read_picture

HEADER = struct.Struct(">BI")
GLYPH, REFUSAL = 0, 1
MEMORY = 2 * 2**30  # bytes of address space that a picture may make this process take


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    while header := requests.read(HEADER.size):
        normalise, length = HEADER.unpack(header)
        kind, answer = answer_to(requests.read(length), normalise=bool(normalise))
        answers.write(HEADER.pack(kind, len(answer)) + answer)
        answers.flush()


def answer_to(picture: bytes, *, normalise: bool) -> tuple[int, bytes]:
    try:
        with deadline():
            return GLYPH, read_picture(picture, normalise=normalise).tobytes()
    except PictureError as error:
        return REFUSAL, f"{error.reason}\0{error}".encode()


if __name__ == "__main__":
    with suppress(OSError, ValueError):  # not every system has the limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # Pillow's, of odd tags: a stranger's pictures would fill the worker's log
    serve(sys.stdin.buffer, sys.stdout.buffer)
