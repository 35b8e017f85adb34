"""Has the C library keep what memory the steps of a training take, where TensorFlow has it give that back each time.

It must not know what is trained.
"""

from __future__ import annotations

import ctypes
import sys

M_TOP_PAD, M_MMAP_THRESHOLD = -2, -3  # of <malloc.h>
KEPT = 2**28  # bytes, of what is free, that are not given back to the system
MAPPED = 2**30  # bytes, from which on memory is asked of the system for one use


def keep_memory() -> None:
    """Change that for this process, where its C library is glibc; elsewhere nothing is changed.

    TensorFlow's input pipeline has each free 128 kB given back. Every step then begins by having its memory cleared by
    the kernel, page by page: 2.8 million faults in 8,000 images, which took a third of the processor's time and nearly
    half of all (`mallopt(3)`).
    """
    if sys.platform != "linux":
        return
    change = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if change is not None:
        change(M_TOP_PAD, KEPT)
        change(M_MMAP_THRESHOLD, MAPPED)
