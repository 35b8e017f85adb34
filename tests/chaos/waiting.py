"""Waiting for a condition, with a deadline and a word for what did not come."""

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str, *, within: float, check: Callable[[], None] = lambda: None) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        check()
        assert time.monotonic() < deadline, f"{what} did not come within {within:g} s"
        time.sleep(0.05)
    return value
