"""A picture's key, label and attributes: checked, and written as they travel."""

from __future__ import annotations

import json
import math
import operator
from numbers import Real
from typing import Any

import numpy as np

from twinvec_client.contract.limits import (
    MAX_ATTRIBUTES_BYTES,
    MAX_ATTRIBUTES_DEPTH,
    MAX_KEY_CHARS,
    MAX_LABEL,
    holds_nul,
    is_name,
)
from twinvec_client.contract.reasons import SenderReason
from twinvec_client.errors import InvalidRequest

Refusal = tuple[SenderReason, str]  # reason code, sentence


def read_integer(name: str, value: Any, most: int) -> int:
    """An integer of Python's or NumPy's from 1 to `most`. Raises InvalidRequest."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise InvalidRequest(f"{name} is {value!r:.40}: an integer from 1 to {most}")
    return number


def read_distance(name: str, value: Any) -> float | None:
    """A distance, Python's or NumPy's, or None. Raises InvalidRequest."""
    if value is None:
        return None
    if not isinstance(value, Real) or not 0 <= float(value) < math.inf:  # NaN is neither
        raise InvalidRequest(f"{name} is {value!r:.40}: a number, 0 or more")
    return float(value)


def key_refusal(key: Any) -> Refusal | None:
    if is_name(key, MAX_KEY_CHARS):
        return None
    return "bad_key", f"{key!r:.80}: a key is a string of 1 to {MAX_KEY_CHARS} characters without NUL"


def read_label(label: Any) -> tuple[int | None, Refusal | None]:
    """A label as an int, or why it is refused. NumPy's integers are labels too."""
    if label is None:
        return None, None
    try:
        number = -1 if isinstance(label, bool) else operator.index(label)
    except TypeError:
        number = -1
    if 0 <= number < MAX_LABEL:
        return number, None
    return None, ("bad_label", f"{label!r:.80}: a label is an integer from 0 to {MAX_LABEL - 1}")


def write_attributes(attributes: dict[str, Any] | None) -> tuple[str | None, Refusal | None]:
    """A digit's attributes as JSON text, or why they are refused."""
    if attributes is None:
        return None, None
    if not isinstance(attributes, dict):
        return None, ("bad_attributes", f"a {type(attributes).__name__}: attributes are a dict")
    if _deeper(attributes, MAX_ATTRIBUTES_DEPTH):
        return None, ("bad_attributes", f"nested more than {MAX_ATTRIBUTES_DEPTH} levels deep")
    try:
        text = json.dumps(_plain(attributes), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        return None, ("bad_attributes", f"not JSON: {error}")
    if size > MAX_ATTRIBUTES_BYTES:
        return None, ("bad_attributes", f"{size:,} bytes of JSON: at most {MAX_ATTRIBUTES_BYTES:,} are taken")
    if holds_nul(text):
        return None, ("bad_attributes", "a string in them holds NUL, which SQL cannot store")
    return text, None


def _plain(value: Any) -> Any:
    """The same with NumPy's scalars and arrays as Python's numbers and lists, in keys as well."""
    if isinstance(value, dict):
        return {_plain(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _deeper(value: Any, levels: int) -> bool:
    """Whether dicts and lists stand in each other more than `levels` deep."""
    if not isinstance(value, dict | list | tuple):
        return False
    return levels == 0 or any(
        _deeper(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value)
    )
