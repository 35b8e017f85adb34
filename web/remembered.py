"""Keeps what many visitors ask for and workers count long, for some seconds. It must not know what it is."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Remembered:
    """Asked for once at a time, and kept for `seconds`, by name; the latest `most` of them."""

    def __init__(self, seconds: float, most: int = 20) -> None:
        self._seconds, self._most = seconds, most
        self._kept: dict[str, tuple[float, Any]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answered, not long ago. Raises what it does."""
        async with self._asking[name]:
            kept = self._kept.get(name)
            if kept is None or time.monotonic() - kept[0] > self._seconds:
                kept = (time.monotonic(), await ask())
                self.forget(name)
                self._kept[name] = kept
                while len(self._kept) > self._most:
                    self.forget(next(iter(self._kept)))
            value: T = kept[1]
            return value

    def forget(self, name: str) -> None:
        """After what has changed it."""
        self._kept.pop(name, None)
