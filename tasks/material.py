"""What a training learns from: the data set that the settings name, stored digits and judged pairs, or all of these.

It is chosen once, at the training's start, and fixed in the ledger: one that goes on after its worker died learns from
the same. It must not know a network.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np

from db import digits, examples
from db.queue import trainings
from db.queue.leases import Lease
from training.arrays import Int64, Uint8
from training.data.dataset import Dataset
from training.data.files import load_configured
from training.data.mixing import Material, Stored, choose, digests_of, mixed
from worker.runtime import Runtime

log = logging.getLogger(__name__)

MOST = 200_000  # stored digits of one training, evenly drawn from more: 157 MB of pixels, and twice that while mixed
MOST_PAIRS = 20_000  # judged ones, the newest
PAGE = 4096  # digits whose pixels are read at a time

NOTHING = Stored(np.empty(0, np.int64), np.empty(0, np.int64), [], np.empty(0, np.int64), [], np.empty(0, np.bool_))


class Learnt(NamedTuple):
    """The images that a training learns from, and how many of them are whose, and how many pairs were judged."""

    data: Dataset
    of_data_set: int
    stored: int
    judged: int


def gather(lease: Lease, runtime: Runtime) -> Learnt:
    """What a training learns from, of at most MOST stored digits and MOST_PAIRS judged pairs.

    Memory: the data set, 784 bytes for each stored digit, twice that for each pair, and all once more while it is
    mixed. Raises DataError, LeaseLost.
    """
    kind = lease.parameters.get("data", "mnist")  # a training that a version before opened says nothing
    settings = runtime.settings
    data = None
    if kind != "stored":
        data = load_configured(settings.data, settings.mnist, transposed=settings.data_transposed)
    material = fixed(lease, runtime)
    pixels = None if material is None else pixels_of(material, runtime)
    if material is None or pixels is None:
        material = chosen(data, runtime, stored=kind != "mnist")
        lists: dict[str, list[Any]] = {name: each.tolist() for name, each in material._asdict().items()}
        runtime.transact(trainings.keep_material, lease, **lists)
        pixels = pixels_of(material, runtime)
    if pixels is None:
        raise ValueError("stored digits were deleted while they were read: start the training again")
    count = 0 if data is None else len(data.train_images) - len(material.left_out)
    return Learnt(mixed(material, *pixels, data), count, len(material.digits), len(material.same))


def fixed(lease: Lease, runtime: Runtime) -> Material | None:
    """What was chosen by a worker before this one."""
    row = runtime.transact(trainings.material, lease.job)
    if row is None:
        return None
    ids, labels, left_out, pairs = (
        np.array(each, np.int64) for each in (row.digits, row.labels, row.left_out, row.pairs)
    )
    return Material(ids, labels, left_out, pairs, np.array(row.same, np.bool_))


def pixels_of(material: Material, runtime: Runtime) -> tuple[Uint8, Uint8] | None:
    """(n, 784) uint8 of the stored digits and (2p, 784) of the pairs; None where some were deleted: they are to be
    learnt from no more.
    """
    read = [_pixels_of(material.digits, runtime), _pixels_of(material.pairs, runtime)]
    return None if read[0] is None or read[1] is None else (read[0], read[1])


def _pixels_of(ids: Int64, runtime: Runtime) -> Uint8 | None:
    pixels: Uint8 = np.empty((len(ids), digits.PIXELS), np.uint8)
    for start in range(0, len(ids), PAGE):
        page, places = np.unique(ids[start : start + PAGE], return_inverse=True)
        found = runtime.transact(digits.pixels_of, page.tolist())
        if len(found.ids) < len(page):
            log.warning("%d digits that a training learns from were deleted", len(page) - len(found.ids))
            return None
        pixels[start : start + PAGE] = found.pixels[places]
    return pixels


def chosen(data: Dataset | None, runtime: Runtime, *, stored: bool) -> Material:
    """Choose among the digits that are stored now, read page by page. Raises DataError.

    What is remembered of those that are held out is bounded by what they are compared with.
    """
    candidates = NOTHING
    if stored:
        judged = runtime.transact(examples.judged, most=MOST_PAIRS)
        candidates = Stored(*labelled_digits(runtime), judged.pairs, judged.digests, judged.same)
    compared = {*candidates.digests, *candidates.pair_digests}
    compared |= set(digests_of(data.train_images)) if data is not None else set()
    held: set[bytes] = set()
    after: int | None = 0
    while after is not None:
        page = runtime.transact(examples.page, after=after, share=0)
        held |= page.held & compared
        after = page.upto
    material = choose(candidates, held=held, data=data)
    log.info(
        "learn from %d stored digits and %d judged pairs, and leave out %d images",
        len(material.digits),
        len(material.same),
        len(material.left_out),
    )
    return material


def labelled_digits(runtime: Runtime) -> tuple[Int64, Int64, list[bytes]]:
    """(n,) ids, (n,) labels and the SHA-256 of the pixels of stored digits to learn from, n about MOST at most."""
    total = 0
    after: int | None = 0
    while after is not None:
        count, after = runtime.transact(examples.count, after=after)
        total += count
    share = examples.SHARES if total <= MOST else int(examples.SHARES * MOST / total)
    pages, after = list[examples.Page](), 0
    while after is not None:
        pages.append(runtime.transact(examples.page, after=after, share=share)._replace(held=set()))
        after = pages[-1].upto
    ids, labels = (np.concatenate([getattr(page, name) for page in pages]) for name in ("ids", "labels"))
    return ids, labels, [digest for page in pages for digest in page.digests]
