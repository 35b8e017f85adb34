"""Stored vectors as a caller gets them, all of one tower, and how those of keys or of a job are fetched.

It must not know how a page is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinvec_client.connection import Connection
from twinvec_client.contract.limits import DIMENSIONS, MAX_PAGE
from twinvec_client.contract.messages import GetVectors, ListVectors, VectorsOfJob
from twinvec_client.stored import parts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Stored digits and their vectors under one tower.

    tower: its fingerprint; vectors of another tower are in another space. keys, collections, labels: an entry a digit,
    a label None where it has none. vectors: (n, 128) float32, a row a digit.
    """

    tower: str
    keys: list[str]
    collections: list[str]
    labels: list[int | None]
    vectors: Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` of `key`, `collection`, `label` and `vector`, a list of 128 float32; its metadata have the
        `tower`. Raises ImportError where pyarrow is not installed."""
        import pyarrow as pa  # noqa: PLC0415  # a caller's own choice, not a dependency

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.reshape(-1)), DIMENSIONS)
        columns = {
            "key": pa.array(self.keys, pa.string()),
            "collection": pa.array(self.collections, pa.string()),
            "label": pa.array(self.labels, pa.int32()),
            "vector": vectors,
        }
        return pa.table(columns, metadata={"tower": self.tower})

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` of `key`, `collection`, `label` and the vector's numbers, `v0` to `v127`; its `attrs`
        have the `tower`. Raises ImportError where pandas is not installed."""
        import pandas as pd  # noqa: PLC0415  # a caller's own choice, not a dependency

        numbers = pd.DataFrame(self.vectors, columns=[f"v{at}" for at in range(DIMENSIONS)])
        labels = pd.array(self.labels, dtype="Int64")
        for at, (name, values) in enumerate((("key", self.keys), ("collection", self.collections), ("label", labels))):
            numbers.insert(at, name, values)
        numbers.attrs["tower"] = self.tower
        return numbers


def read(answer: dict[str, Any]) -> Vectors:
    """A page of vectors, as a worker answers."""
    vectors = np.frombuffer(answer["vectors"], "<f4").reshape(-1, DIMENSIONS)
    return Vectors(answer["tower"], answer["keys"], answer["collections"], answer["labels"], vectors)


def joined(pages: Iterable[Vectors], tower: str) -> Vectors:
    """All pages as one."""
    held = list(pages)
    vectors = [page.vectors for page in held] or [np.empty((0, DIMENSIONS), np.float32)]
    return Vectors(
        tower,
        [key for page in held for key in page.keys],
        [name for page in held for name in page.collections],
        [label for page in held for label in page.labels],
        np.concatenate(vectors).astype(np.float32, copy=False),
    )


def of_keys(connection: Connection, keys: Iterable[str], *, collection: str) -> Vectors:
    """See `Twinvec.vectors`."""

    def ask() -> Iterator[Vectors]:
        tower: str | None = None
        asked = set[str]()
        for some in parts(keys, MAX_PAGE):
            new = [key for key in dict.fromkeys(some) if key not in asked]
            asked.update(new)
            if new:
                page = read(connection.ask(GetVectors(collection=collection, keys=new, tower=tower)))
                tower = page.tower
                yield page

    pages = list(ask())
    return joined(pages, pages[0].tower if pages else _tower(connection))


def of_job(connection: Connection, job: str) -> Vectors:
    """See `EmbedJob.vectors`."""
    pages, listed = list[Vectors](), set[tuple[str, str]]()
    after: int | None = 0
    while after is not None:
        answer = connection.ask(VectorsOfJob(job=job, after=after, tower=pages[0].tower if pages else None))
        pages.append(_without(read(answer), listed))
        after = answer["after"]
    return joined(pages, pages[0].tower)


def _without(page: Vectors, listed: set[tuple[str, str]]) -> Vectors:
    """What is not listed yet of a page; it is listed from now on."""
    places = list(zip(page.collections, page.keys, strict=True))
    new = [at for at, place in enumerate(places) if place not in listed]
    listed.update(places)
    if len(new) == len(page):
        return page
    return Vectors(
        page.tower,
        [page.keys[at] for at in new],
        [page.collections[at] for at in new],
        [page.labels[at] for at in new],
        page.vectors[new],
    )


def _tower(connection: Connection) -> str:
    """The fingerprint of the live tower."""
    nothing = ListVectors(collection=None, after=0, limit=1, count=0, tower=None, every=1)
    fingerprint: str = connection.ask(nothing)["tower"]
    return fingerprint
