"""Many rows through a compiled function: in parts of a few sizes, smaller ones where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

SIZES = (1, 8, 64, 256, 512, 1024, 2048, 4096)  # rows
PADDING = 128  # rows: computing so many for nothing costs about as much as one more call
PATIENCE = 16  # parts of a reduced size that must go well before the next larger one is tried again

Array = np.ndarray[Any, Any]


class BucketedCall:
    """Calls `compute`, (n, ...) -> (n, width) float32 row by row, with no other n than those of SIZES.

    A backend compiles once for each size. Where memory runs out, the part is halved and the call goes on; after some
    parts that went well the next larger size is tried, up to the largest. Each time in vain, twice as many must go well
    before the next try, because a backend may wait ten seconds for memory before it gives up.
    """

    def __init__(self, compute: Callable[[Array], Array], width: int) -> None:
        self._compute, self._width = compute, width
        self.limit = SIZES[-1]  # rows of the largest part that is tried now
        self._fitted = 0  # parts of that size since it was set
        self._patience = PATIENCE
        self._trying = False  # whether that size is larger than what fitted last

    def __call__(self, rows: Array) -> Array:
        """(n, ...) -> (n, width) float32, n >= 0. Raises what `compute` does, of one row that is too much as well."""
        found = np.empty((len(rows), self._width), np.float32)
        start = 0
        while start < len(rows):
            size = size_for(len(rows) - start, self.limit)
            part = rows[start : start + size]
            if self._fits(part, size, found[start : start + size]):
                start += len(part)
                self._grow(size)
            else:  # outside of any `except`: the error would keep alive what there was no memory for
                self._shrink(size)
        return found

    def _fits(self, part: Array, size: int, into: Array) -> bool:
        """Compute one part, padded to its size; whether there was memory for it."""
        try:
            into[:] = self._compute(padded(part, size))[: len(part)]
        except Exception as error:
            if size == SIZES[0] or not is_out_of_memory(error):
                raise
            return False
        return True

    def _shrink(self, size: int) -> None:
        self._patience = 2 * self._patience if self._trying else PATIENCE
        self.limit, self._fitted, self._trying = SIZES[SIZES.index(size) - 1], 0, False
        log.warning("no memory for %d pictures at once: went on with %d", size, self.limit)

    def _grow(self, size: int) -> None:
        if size < self.limit:
            return  # a smaller part says nothing of the memory for a larger one
        if self._trying:
            self._patience, self._trying = PATIENCE, False
        if self.limit == SIZES[-1]:
            return
        self._fitted += 1
        if self._fitted == self._patience:
            self.limit, self._fitted, self._trying = SIZES[SIZES.index(self.limit) + 1], 0, True


def size_for(left: int, limit: int = SIZES[-1]) -> int:
    """The size of the next part: the one that takes all that is left, or the one below where too much were padding."""
    above = next((size for size in SIZES if size >= min(left, limit)), SIZES[-1])
    if above - left <= max(PADDING, left // 8):
        return above
    return SIZES[SIZES.index(above) - 1]


def padded(part: Array, size: int) -> Array:
    """(n, ...) -> (size, ...), zeros below."""
    if len(part) == size:
        return part
    rows = np.zeros((size, *part.shape[1:]), part.dtype)
    rows[: len(part)] = part
    return rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend, or Python, says that memory ran out.

    Told by names and words: every backend has a class of its own, Keras wraps some in others, and none that is not in
    use need be loaded.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}:
        return True
    said = str(error).lower()
    return any(
        words in said for words in ("out of memory", "resource_exhausted", "can't allocate memory", "_alloc_failed")
    )
