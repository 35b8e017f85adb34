"""Many rows through a compiled function: in blocks of a few sizes, the buckets, and smaller ones where memory runs out.

It must not know what is computed, nor by which backend.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from training.arrays import AnyArray, Float32

log = logging.getLogger(__name__)

BUCKETS = (1, 8, 64, 256, 512, 1024, 2048, 4096)  # rows
PADDING = 128  # rows: computing so many for nothing costs about as much as one more call
SUCCESSES_BEFORE_GROWTH = 16  # blocks of a reduced size, before the next larger one is tried again


class BucketedCall:
    """Calls `compute`, (n, ...) -> (n, width) float32 row by row, with no other n than those of BUCKETS.

    A backend compiles once for each. Where memory runs out, the next smaller bucket is used; after some successes the
    next larger one is tried, up to the largest. Each time that fails, twice as many successes are needed before the
    next try, because a backend may wait ten seconds for memory before it gives up.
    """

    def __init__(self, compute: Callable[[AnyArray], Float32], width: int) -> None:
        self._compute, self._width = compute, width
        self.limit = BUCKETS[-1]  # rows of the largest bucket in use
        self._successes = 0  # blocks of that size since it was set
        self._successes_before_growth = SUCCESSES_BEFORE_GROWTH
        self._trying = False  # whether that size is larger than what succeeded last

    def __call__(self, rows: AnyArray) -> Float32:
        """(n, ...) -> (n, width) float32, n >= 0. Raises what `compute` does, of one row that is too much as well."""
        results = np.empty((len(rows), self._width), np.float32)
        start = 0
        while start < len(rows):
            size = bucket_for(len(rows) - start, self.limit)
            block = rows[start : start + size]
            if self._try(block, size, results[start : start + size]):
                start += len(block)
                self._grow(size)
            else:  # outside of any `except`: the error would keep alive what there was no memory for
                self._shrink(size)
        return results

    def _try(self, block: AnyArray, size: int, into: Float32) -> bool:
        """Compute one block, padded to its bucket; whether there was memory for it."""
        try:
            into[:] = self._compute(padded(block, size))[: len(block)]
        except Exception as error:
            if size == BUCKETS[0] or not is_out_of_memory(error):
                raise
            return False
        return True

    def _shrink(self, size: int) -> None:
        self._successes_before_growth = 2 * self._successes_before_growth if self._trying else SUCCESSES_BEFORE_GROWTH
        self.limit, self._successes, self._trying = BUCKETS[BUCKETS.index(size) - 1], 0, False
        log.warning("no memory for %d pictures at once: went on with %d", size, self.limit)

    def _grow(self, size: int) -> None:
        if size < self.limit:
            return  # a smaller block says nothing of the memory for a larger one
        if self._trying:
            self._successes_before_growth, self._trying = SUCCESSES_BEFORE_GROWTH, False
        if self.limit == BUCKETS[-1]:
            return
        self._successes += 1
        if self._successes == self._successes_before_growth:
            self.limit, self._successes, self._trying = BUCKETS[BUCKETS.index(self.limit) + 1], 0, True


def bucket_for(left: int, limit: int = BUCKETS[-1]) -> int:
    """The bucket of the next block: the one that takes all rows left, or the one below if too much were padding."""
    above = next((size for size in BUCKETS if size >= min(left, limit)), BUCKETS[-1])
    if above - left <= max(PADDING, left // 8):
        return above
    return BUCKETS[BUCKETS.index(above) - 1]


def padded(block: AnyArray, size: int) -> AnyArray:
    """(n, ...) -> (size, ...), zeros below."""
    if len(block) == size:
        return block
    rows = np.zeros((size, *block.shape[1:]), block.dtype)
    rows[: len(block)] = block
    return rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend, or Python, says that memory ran out.

    Recognised by the name of the class and by the message: every backend has a class of its own, Keras wraps some in
    others, and importing a class would load a backend that is not in use.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    message = str(error).lower()
    return any(
        words in message for words in ("out of memory", "resource_exhausted", "can't allocate memory", "_alloc_failed")
    )
