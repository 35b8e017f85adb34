"""Keeps the two faces of the client alike: a method for asyncio is documented as its synchronous twin is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def mirrors(original: Callable[..., Any]) -> Callable[[Method], Method]:
    """Give a method the docstring of its twin, and what its own says behind that."""

    def mirror(method: Method) -> Method:
        docs = (inspect.getdoc(original), inspect.getdoc(method))
        method.__doc__ = "\n\n".join(filter(None, docs)) or None
        return method

    return mirror
