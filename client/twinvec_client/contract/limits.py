"""How much of what is taken: the limits that clients check before they send, and workers again."""

from __future__ import annotations

import json
from typing import Any

SIDE = 28  # pixels of a glyph's side
GLYPH_BYTES = SIDE * SIDE  # one 28x28 uint8 picture
DIMENSIONS = 128  # of a vector
MAX_FLOAT32 = 3.4028234663852886e38  # the largest number of a vector

MAX_CHUNK_ITEMS = 4096
MAX_EXPRESS_ITEMS = 16  # of a job that waits for no bulk job
MAX_EXPRESS_BYTES = 256 * 1024
MAX_CHUNK_BYTES = 2 * 1024 * 1024
MAX_PICTURE_BYTES = 10 * 1024 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # of one message; what is larger is not taken
MAX_KEY_CHARS = 512
MAX_COLLECTION_CHARS = 128
MAX_COLLECTIONS = 100  # of one query's filter
MAX_CURSOR_CHARS = 128  # of the place where an answer ended
MAX_ATTRIBUTES_BYTES = 4096  # of one digit's attributes as JSON
MAX_ATTRIBUTES_DEPTH = 32  # of dicts and lists in each other
MAX_LABEL = 2**31  # labels are below this
MAX_NAME_CHARS = 255  # of a callback's task and queue
MAX_SEQ = 2**31 - 1  # chunks of a job; SQL's integer holds their count
MAX_DIGEST_BYTES = 64
MAX_PRIORITY = 100
MAX_TOWER = 2**31 - 1  # of a tower's id
MAX_PLACE_CHARS = 2048  # of the place among the failures where a page ended: it holds a key
MAX_SECONDS = 1e10  # some hundreds of years, into the past
MAX_SEED = 2**32 - 1
MAX_BATCH = 2**63 - 1  # SQL's bigint
MAX_RECIPE_CHARS = 64
MAX_STARTER_CHARS = 200  # of who or what started a training
MAX_K = 1000
MAX_QUERIES = 1000  # of one `nearest_many`
MAX_PAGE = 1000  # digits that one message of a walk through the store looks at
MAX_NEIGHBOURS = 20_000  # that one message may ask for, of all its queries: with attributes they take 4 kB each
MAX_COUNTED = 10_000_000  # digits that one message counts
MAX_SAMPLING = 2**31 - 1  # one digit of so many


def holds_nul(json_text: str) -> bool:
    """Whether a string in JSON holds NUL, which PostgreSQL cannot store."""
    return r"\u0000" in json_text.replace(r"\\", "")  # a backslash that is itself escaped escapes nothing


def is_attributes(text: str) -> bool:
    """Whether `text` is a JSON object that PostgreSQL can store."""
    try:
        return isinstance(json.loads(text, parse_constant=_refuse), dict) and not holds_nul(text)
    except (ValueError, RecursionError):
        return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def is_name(value: Any, limit: int) -> bool:
    """Whether `value` can be a key or a collection of at most `limit` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= limit or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
