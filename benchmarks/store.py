"""A store of digits as bulk jobs leave it, and pictures to be asked for: digits held out of it, and others."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from benchmarks.digits import originals
from benchmarks.rows import copy_digits
from db.vectors import embeddings
from db.vectors.filters import Described, collection_hash
from training.arrays import Float32, Uint8
from training.data import mnist
from training.model.embedder import Embedder

HELD_OUT = 2_000  # of MNIST's 70,000 digits, the last ones; never stored, however they are shifted
TURN = 70_000 - HELD_OUT
# By how many rows and columns MNIST is shifted each time it begins anew: none, then ever more.
SHIFTS = sorted(product(range(-4, 5), repeat=2), key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))
BATCH = 4_096  # digits that are written in one transaction, as the embedder does
RARE = 100  # of so many digits one is in the collection `rare`; of the others half are in `many`
PAGE = 20  # digits whose attributes name the same page
QUERIES = ("held out", "held out, shifted", "stored", "noise", "inverted")
STRANGE = ("noise", "inverted")  # no digits


def images(start: int, stop: int) -> Uint8:
    """Digits `start` to `stop` of the store, (n, 28, 28) uint8: MNIST without the held out, and so on, shifted."""
    places = np.arange(start, stop)
    turns, at = np.divmod(places, TURN)
    return np.concatenate(
        [
            np.roll(originals()[at[turns == turn]], SHIFTS[turn], axis=(1, 2))
            for turn in range(int(turns[0]), int(turns[-1]) + 1)
        ]
    )


def queries(kind: str, count: int, stored: int) -> Uint8:
    """(count, 28, 28) uint8, the same ones each time; at most HELD_OUT of a kind."""
    rng = np.random.default_rng(0)
    held_out = originals()[TURN:][:count]
    match kind:
        case "held out":
            return held_out
        case "held out, shifted":
            by = rng.integers(1, 15, len(held_out))
            return np.stack([np.roll(one, SHIFTS[turn], (0, 1)) for one, turn in zip(held_out, by, strict=True)])
        case "stored":
            places = rng.choice(stored, count, replace=False)
            return np.concatenate([images(int(place), int(place) + 1) for place in places])
        case "noise":
            return rng.integers(0, 256, (count, 28, 28), np.uint8)
        case "inverted":
            return 255 - held_out
    raise ValueError(f"no queries are of the kind {kind}")


def fill(engine: Engine, tower: int, embed: Embedder, count: int) -> tuple[np.ndarray[Any, Any], Float32, float]:
    """Store so many digits and their vectors; ids (n,) int64, ascending, the vectors (n, 128), and seconds of writing
    vectors.

    Afterwards the tables are vacuumed and analysed, as autovacuum does within a minute or two.
    """
    ids, vectors, seconds = [], [], 0.0
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        glyphs, labels, collections = images(start, stop), _labels(start, stop), _collections(start, stop)
        some = embed(glyphs)
        with Session(engine) as session, session.begin():
            drawn = text("SELECT nextval('digits_id_seq') FROM generate_series(1, :count)")
            own = np.array(session.execute(drawn, {"count": stop - start}).scalars().all(), np.int64)
            copy_digits(session, _rows(start, own, glyphs, labels, collections))
            began = time.perf_counter()
            hashes = np.array([collection_hash(name) for name in collections], np.int32)
            embeddings.write(session, tower, Described(own, labels.astype(np.int32), hashes), some)
            session.flush()
            seconds += time.perf_counter() - began
        ids.append(own)
        vectors.append(some)
    vacuum(engine)
    return np.concatenate(ids), np.concatenate(vectors), seconds


def vacuum(engine: Engine) -> None:
    """Do what autovacuum does within a minute or two after many digits were stored."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE digits, embeddings"))


def passing(name: str, count: int) -> np.ndarray[Any, Any]:
    """(n,) bool: which digits of the store a filter lets through."""
    passes: np.ndarray[Any, Any]
    match name:
        case "attributes":
            passes = np.arange(count) // PAGE == 7
        case "label":
            passes = _labels(0, count) == 7
        case _:
            passes = np.array(_collections(0, count)) == name
    return passes


def _rows(start: int, ids: Any, glyphs: Uint8, labels: Any, collections: list[str]) -> Iterator[tuple[Any, ...]]:
    job = uuid.UUID(int=0)
    for at, (id, glyph, label, collection) in enumerate(
        zip(ids.tolist(), glyphs, labels.tolist(), collections, strict=True)
    ):
        pixels = glyph.tobytes()
        attributes = Jsonb({"page": (start + at) // PAGE})
        yield id, f"stored/{start + at:07}", collection, pixels, hashlib.sha256(pixels).digest(), label, attributes, job


def _labels(start: int, stop: int) -> np.ndarray[Any, Any]:
    labels: np.ndarray[Any, Any] = _originals_labels()[np.arange(start, stop) % TURN]
    return labels


@cache
def _originals_labels() -> np.ndarray[Any, Any]:
    data = mnist.load()
    return np.concatenate([data.train_labels, data.test_labels])


def _collections(start: int, stop: int) -> list[str]:
    return ["rare" if place % RARE == 0 else "many" if place % 2 else "others" for place in range(start, stop)]
