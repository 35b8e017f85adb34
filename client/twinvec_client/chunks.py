"""A stream of pictures -> chunks of bounded size, in constant memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from twinvec_client.contract.limits import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_ITEMS,
)
from twinvec_client.contract.messages import GLYPH, REFUSED, Callback, Intake
from twinvec_client.contract.packing import PACKED_BYTES, pack
from twinvec_client.errors import InvalidRequest
from twinvec_client.fields import Refusal, key_refusal, read_label, write_attributes
from twinvec_client.pictures import Digit, encode

Labels = Mapping[str, int] | Callable[[str], int | None] | Sequence[int | None] | np.ndarray[Any, Any] | None

Attributes = Mapping[str, dict[str, Any]] | Callable[[str], dict[str, Any] | None] | None

# Bytes on the wire, about, of those that are not sent as they are; every glyph as large as most, so that cuts depend on
# no packing.
_SIZES = {GLYPH: PACKED_BYTES, REFUSED: 0}

_Item = tuple[str, int, bytes | Refusal, int | None, str | None]  # as it travels: key, type, content, label, attributes


@dataclass(slots=True)
class _Open:
    """The chunk that is being filled."""

    keys: list[str] = field(default_factory=list)
    item_types: bytearray = field(default_factory=bytearray)
    glyphs: list[bytes] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    attributes: list[str | None] = field(default_factory=list)
    size: int = 0  # about how many bytes

    def take(self, item: _Item, most: int) -> bool:
        """Append an item; False where it has no room beside those that are here, `most` or large ones."""
        key, item_type, content, label, attributes = item
        size = _SIZES[item_type] if item_type in _SIZES else len(content)
        size += self.size + len(key) + (len(attributes) if attributes else 0)
        if self.keys and (len(self.keys) == most or size > MAX_CHUNK_BYTES):
            return False
        self.size = size
        self.keys.append(key)
        self.item_types.append(item_type)
        if item_type == GLYPH:
            self.glyphs.append(content)  # type: ignore[arg-type]  # bytes
        elif isinstance(content, tuple):
            self.refused.append(content)
        else:
            self.encoded.append(content)
        self.labels.append(label)
        self.attributes.append(attributes)
        return True


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What is said of a job's pictures as a whole.

    job: its id, a UUID. labels, attributes: by key. normalise: whether pictures are set as MNIST's digits were.
    priority: 1 to 100.
    """

    job: str
    collection: str = "default"
    labels: Labels = None
    attributes: Attributes = None
    normalise: bool = True
    callback: Callback | None = None
    priority: int = 1


def chunks(pictures: Any, options: JobOptions, *, most: int = MAX_CHUNK_ITEMS) -> Iterator[Intake]:
    """Cut a stream into `Intake` messages of at most `most` items; the last one, and no other, carries the total.

    The cuts depend on the stream alone, so the same stream sent again gives the same chunks. A stream without
    pictures gives one empty chunk. An item whose key, label or attributes are out of their limits is sent as
    refused. Raises InvalidRequest where `pictures` is not a stream of pictures at all.
    """
    label_of, attributes_of = _lookup(options.labels), _lookup(options.attributes)
    chunk, seq, total = _Open(), 0, 0
    first: bytes | None = None  # the digest of the first chunk

    def close(last: bool) -> Intake:
        nonlocal first
        content, glyphs = hashlib.blake2b(digest_size=16), b"".join(chunk.glyphs)
        keys = [key.encode() for key in chunk.keys]
        for parts in (keys, [chunk.item_types], [glyphs], chunk.encoded):
            content.update(b"".join([len(part).to_bytes(4, "big") for part in parts]))
            content.update(b"".join(parts))
        whole = (chunk.labels, chunk.attributes, options.collection, options.normalise, total if last else None)
        content.update(repr(whole).encode())
        first = first or content.digest()
        return Intake(
            job=options.job,
            seq=seq,
            collection=options.collection,
            keys=chunk.keys,
            item_types=bytes(chunk.item_types),
            glyphs=pack(glyphs),
            encoded=chunk.encoded,
            refused=chunk.refused,
            labels=chunk.labels if any(label is not None for label in chunk.labels) else None,
            attributes=chunk.attributes if any(chunk.attributes) else None,
            normalise=options.normalise,
            callback=options.callback,
            resent=False,
            digest=content.digest(),
            total=total if last else None,
            first=first,
            priority=options.priority,
        )

    for key, picture in _items(pictures):
        item = _prepare(key, picture, place=total, label_of=label_of, attributes_of=attributes_of)
        if not chunk.take(item, most):
            yield close(last=False)
            chunk, seq = _Open(), seq + 1
            chunk.take(item, most)
        total += 1
    yield close(last=True)


class Paired:
    """(key, picture) of each of several pictures, such as the rows of an array (n, 28, 28), and of as many keys.

    labels: as many, or by key. Raises InvalidRequest where their numbers differ.
    """

    def __init__(self, pictures: Any, keys: Any, labels: Any) -> None:
        self.by_key = labels if isinstance(labels, Mapping) or callable(labels) else None
        self._columns = [keys, pictures]
        if labels is not None and self.by_key is None:
            self._columns.append(labels)
        try:
            if isinstance(keys, str | bytes) or isinstance(pictures, str | bytes | Mapping):
                raise TypeError
            counts = [len(column) for column in self._columns]
        except TypeError:
            raise InvalidRequest("with `keys`, pictures are an array or a list, and so are the keys") from None
        if len(set(counts)) > 1:
            told = [f"{count:,} {name}" for count, name in zip(counts, ("keys", "pictures", "labels"), strict=False)]
            raise InvalidRequest(f"{', '.join(told)}: as many of each are needed")
        self._count = counts[0]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for key, picture, *label in zip(*self._columns, strict=True):
            yield key, _with_label(picture, *label) if label else picture


def _with_label(picture: Any, label: Any) -> Digit:
    if not isinstance(picture, Digit):
        return Digit(picture, label)
    return picture if picture.label is not None else replace(picture, label=label)


def _items(pictures: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(pictures, Mapping):
        yield from pictures.items()
        return
    if isinstance(pictures, np.ndarray) and pictures.ndim > 2:
        raise InvalidRequest(f"`pictures` is an array of shape {pictures.shape}: give `keys`, one for each")
    if isinstance(pictures, str | bytes | os.PathLike) or not isinstance(pictures, Iterable):
        raise InvalidRequest(
            f"`pictures` is a {type(pictures).__name__}: "
            "give a mapping of key to picture, (key, picture) pairs, or paths"
        )
    for item in pictures:
        if isinstance(item, tuple) and len(item) == 2:  # a pair
            yield item
        elif isinstance(item, str | os.PathLike):
            yield os.fspath(item).encode(errors="backslashreplace").decode(), item
        else:
            raise InvalidRequest(f"an item is a {type(item).__name__}: expected a (key, picture) pair or a path")


def _lookup(given: Any) -> Callable[[str], Any] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        return given.get
    if callable(given):
        return given  # type: ignore[no-any-return]  # the caller's own function
    raise InvalidRequest("`labels` and `attributes` are each a mapping by key, or a function of the key")


def _prepare(key: Any, picture: Any, *, place: int, label_of: Any, attributes_of: Any) -> _Item:
    """One item as it travels. What cannot be a key is listed under the item's place in the stream."""
    if refusal := key_refusal(key):
        return f"#{place}", REFUSED, refusal, None, None
    key = str.__str__(key)  # of NumPy's, or an enumeration's
    label = extra = attributes = None
    if isinstance(picture, Digit):
        picture, label, extra = picture.picture, picture.label, picture.attributes
    if label is None and label_of is not None:
        label = label_of(key)
    if extra is None and attributes_of is not None:
        extra = attributes_of(key)
    if label is not None:
        label, refusal = read_label(label)
    if extra is not None and refusal is None:
        attributes, refusal = write_attributes(extra)
    if refusal is not None:
        return key, REFUSED, refusal, None, None
    item_type, content = encode(picture)
    return key, item_type, content, label, attributes
