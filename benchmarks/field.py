"""MNIST's test digits put into the conditions of the field: what is right, refused, doubtful, or wrong without a word.

    python -m benchmarks.field --tower tower.keras [--count 1000] [--rows rows.json] [--write]

What a picture shows is voted for by the 5 nearest of the 60,000 training digits; the gate is the tower's own, fitted as
a training fits it, and *doubtful* what does not pass it. The pictures are the same for every version of the readers:
`field_before.json` has the rows of the readers that knew none of these conditions, under the same tower. With --write
the table goes to docs/pictures.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.conditions import CONDITIONS, SEVERAL, drawn
from benchmarks.machine import described
from benchmarks.pages import DOCS, publish, table
from training.arrays import AnyArray, Float32, Uint8
from training.data import mnist
from training.data.dataset import Dataset
from training.errors import PictureError
from training.fit.gate import Gate
from training.model.embedder import Embedder
from training.model.storage import load
from training.pictures.glyphs import normalised
from training.pictures.read import read_picture
from twinvec_client.contract.messages import GLYPH, REFUSED
from twinvec_client.pictures import encode

PAGE = DOCS / "pictures.md"
BEFORE = Path(__file__).with_name("field_before.json")
K = 5
GALLERY_BLOCK = 500  # glyphs that are compared with all training digits at once

HEADS = (
    "condition",
    "right before",
    "wrong without a word before",
    "right",
    "refused",
    "doubtful",
    "wrong without a word",
    "ms before",
    "ms",
)


class Row(NamedTuple):
    """Counts of one condition; milliseconds of the processor for each picture. Some right ones are doubtful as well."""

    digits: int
    right: int
    refused: int
    doubtful: int
    silent: int
    wrong: int
    milliseconds: float


class Tower:
    """What a glyph shows, by a vote among the training digits, and whether its tower's gate doubts it."""

    def __init__(self, file: bytes, data: Dataset) -> None:
        self._embed, self._labels = Embedder(load(file)), data.train_labels
        self._gallery = self._embed(data.train_images)
        self._squares = np.square(self._gallery).sum(axis=1)
        held_out = self._embed(data.test_images)
        self._gate = Gate.fit(data.train_images, data.train_labels, self._gallery, data.test_images, held_out)

    def judge(self, glyphs: Uint8) -> tuple[AnyArray, AnyArray]:
        """(n, 28, 28) -> (n,) what most of the K nearest show, and (n,) which are doubtful."""
        vectors = self._embed(glyphs)
        near = np.concatenate([self._nearest(some) for some in blocks(vectors)])
        shown = [np.bincount(labels, minlength=10).argmax() for labels in self._labels[near]]
        return np.array(shown), self._gate.doubts(glyphs, vectors)

    def _nearest(self, vectors: Float32) -> AnyArray:
        return np.argpartition(self._squares - 2 * vectors @ self._gallery.T, K, axis=1)[:, :K]


def blocks(vectors: Float32) -> list[Float32]:
    return np.array_split(vectors, max(1, len(vectors) // GALLERY_BLOCK))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", type=Path, required=True, help="a .keras file of Twinvec's")
    parser.add_argument("--data", type=Path, help="MNIST, where it is not found by itself")
    parser.add_argument("--count", type=int, default=1000, help="test digits in each condition")
    parser.add_argument("--rows", type=Path, help="write the rows here, as JSON")
    parser.add_argument("--write", action="store_true", help="write the table to docs/pictures.md")
    arguments = parser.parse_args()
    data = mnist.load(arguments.data)
    tower = Tower(arguments.tower.read_bytes(), data)
    chosen = np.random.default_rng(1).choice(len(data.test_images), arguments.count, replace=False)
    rows = {
        condition: measured(list(drawn(condition, data.test_images[chosen])), data.test_labels[chosen], tower)
        for condition in CONDITIONS
    }
    if arguments.rows:
        arguments.rows.write_text(json.dumps({condition: row._asdict() for condition, row in rows.items()}, indent=1))
    before = json.loads(BEFORE.read_text())
    said = f"{arguments.count:,} digits in each condition. {described()}."
    publish("field", f"{said}\n\n{table(HEADS, list(lines(rows, before)))}", write=arguments.write, to=PAGE)


def measured(pictures: Sequence[Any], shown: AnyArray, tower: Tower) -> Row:
    """pictures: what a caller gives. shown: (n,), the digit that each shows."""
    start = time.process_time()
    glyphs = [read(picture) for picture in pictures]
    each = 1000 * (time.process_time() - start) / len(pictures)
    was_read = np.array([glyph is not None for glyph in glyphs])
    right, doubtful = np.zeros((2, len(pictures)), bool)
    if was_read.any():
        voted, doubtful[was_read] = tower.judge(np.stack([glyph for glyph in glyphs if glyph is not None]))
        right[was_read] = voted == shown[was_read]
    wrong = was_read & ~right
    return Row(
        digits=len(pictures),
        right=int(right.sum()),
        refused=int((~was_read).sum()),
        doubtful=int(doubtful.sum()),
        silent=int((wrong & ~doubtful).sum()),
        wrong=int(wrong.sum()),
        milliseconds=each,
    )


def read(picture: Any) -> Uint8 | None:
    """The glyph that a worker makes of what a caller gives; None where it is refused."""
    kind, content = encode(picture)
    if kind == REFUSED or isinstance(content, tuple):
        return None
    try:
        if kind != GLYPH:
            return read_picture(content)
        (glyph,) = normalised(np.frombuffer(content, np.uint8).reshape(1, -1))
        return None if isinstance(glyph, PictureError) else np.frombuffer(glyph, np.uint8).reshape(28, 28)
    except PictureError:
        return None


def lines(rows: dict[str, Row], before: dict[str, dict[str, float]]) -> Iterator[Sequence[object]]:
    for condition, row in rows.items():
        old = before[condition]
        is_several = condition in SEVERAL
        yield (
            condition,
            "" if is_several else old["right"],
            unsaid(old, is_several),
            "" if is_several else row.right,
            row.refused,
            row.doubtful,
            unsaid(row._asdict(), is_several),
            f"{old['milliseconds']:.1f}",
            f"{row.milliseconds:.1f}",
        )


def unsaid(row: dict[str, float], is_several: bool) -> float:
    """How many were answered wrongly, and neither refused nor doubtful; of several digits any answer is wrong."""
    return row["digits"] - row["refused"] - row["doubtful"] if is_several else row["silent"]


if __name__ == "__main__":
    main()
