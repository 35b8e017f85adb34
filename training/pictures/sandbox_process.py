"""A child process that decodes pictures: one that crashes the decoder, never ends or wants too much memory costs no
more than this process.

`python -m training.pictures.sandbox_process` reads requests from its input and answers each picture of one, in order,
until the input ends. If it dies, the first picture that was not answered is the one that killed it.

A request is a `REQUEST`, and for each picture its length in four bytes, big-endian, and the picture. An answer is an
`ANSWER`, then 784 pixels, or the reason code, a NUL and the message.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from PIL import AvifImagePlugin

from training.errors import PictureError
from training.pictures.deadline import SECONDS, Budget, ticking
from training.pictures.read import read_picture

REQUEST = struct.Struct(">?dI")  # normalise; seconds of the processor for all; how many pictures
LENGTH = struct.Struct(">I")
ANSWER = struct.Struct(">BdI")  # GLYPH or REFUSAL; seconds left for those that follow; bytes that follow
GLYPH, REFUSAL = 0, 1
RESIDENT, DATA = 1, 5  # places in what `taken` says
READY = b"\n"  # before the first answer

MEMORY = 2**30  # bytes that a picture may make this process take, above what it has at rest; twice what any needs
KEPT = 128 * 2**20  # bytes above that, that it may keep of pictures; with more it is replaced
GRACE = 2.0  # seconds of the processor after a deadline, after which the system ends what would not be interrupted


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the worker's, which ends this process by its input
    warnings.simplefilter("ignore")  # Pillow's, of odd tags: a stranger's pictures would fill the worker's log
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread takes memory, and time of the same budget
    limit_memory()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    with ticking():
        serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end, or pictures have left too much behind."""
    most, limit = resident() + KEPT, 0
    while resident() <= most and (header := requests.read(REQUEST.size)):
        normalise, seconds, count = REQUEST.unpack(header)
        budget = Budget(seconds)
        for _ in range(count):
            (length,) = LENGTH.unpack(requests.read(LENGTH.size))
            picture = requests.read(length)
            limit = limit_processor(min(SECONDS, budget.left), limit)
            kind, answer = answer_to(picture, budget, normalise=normalise)
            answers.write(ANSWER.pack(kind, budget.left, len(answer)) + answer)
            answers.flush()


def answer_to(picture: bytes, budget: Budget, *, normalise: bool) -> tuple[int, bytes]:
    try:
        with budget.spend():
            return GLYPH, read_picture(picture, normalise=normalise).tobytes()
    except PictureError as error:
        return REFUSAL, f"{error.reason}\0{error}".encode()


def limit_processor(seconds: float, limit: int) -> int:
    """Have the system end this process where a picture takes so long that the deadline was not kept.

    limit: the one so far, in whole seconds of this process; mostly the new one, which is returned, is the same.
    """
    most = int(time.process_time() + seconds + GRACE) + 1
    if most != limit:
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
    return most


def limit_memory() -> None:
    """Let this process take no more than MEMORY above what it has; what wants more gets a MemoryError, or ends it."""
    with suppress(OSError, ValueError):  # not every system has the limit
        most = taken()[DATA] + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with suppress(OSError):  # where the machine has no memory left, this process is the one to be ended
        Path("/proc/self/oom_score_adj").write_text("1000")


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        return taken()[RESIDENT]
    except OSError:
        return 0


def taken() -> list[int]:
    """Bytes of address space, in memory, shared, of code, of libraries, of data and stack. Raises OSError."""
    return [int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()]


if __name__ == "__main__":
    main()
