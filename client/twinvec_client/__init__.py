"""Enqueue pictures for embedding and look up the nearest stored digits: a broker URL is all it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinvec_client.public import *  # noqa: F403
    from twinvec_client.public import __all__ as __all__


def __getattr__(name: str) -> Any:
    """One of the public names. What imports `twinvec_client.contract`, as workers do, loads no client."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = import_module(f"{__name__}.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(public, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
