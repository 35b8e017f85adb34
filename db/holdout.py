"""Which labelled digits judge towers and are never trained on. It must not know labels, pairs or vectors."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func

_SEED = 20  # of the hash: another one would move digits from one side to the other, and must never be set
_OF, _HELD = 1024, 102  # about a tenth


def held_out(key: Any) -> ColumnElement[bool]:
    """Whether the digit with this key is held out, in SQL: by the key alone, so that it stays held out for good."""
    return func.hashtextextended(key, _SEED).op("&")(_OF - 1) < _HELD
