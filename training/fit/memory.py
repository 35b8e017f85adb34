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

    TensorFlow's input pipeline sets `M_TRIM_THRESHOLD` to 128 kB, so that what a step frees is given back, and the
    kernel clears it page by page for the next one. An epoch of 8,000 images by the recipe `notebook` took 2.8 million
    page faults and 22.8 s, and takes 0.6 million and 12.5 s (two cores). See `mallopt(3)`.
    """
    if sys.platform != "linux":
        return
    change = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if change is not None:
        change(M_TOP_PAD, KEPT)
        change(M_MMAP_THRESHOLD, MAPPED)
