"""What a training learns from: the data set that the settings name, stored digits with labels, or both.

It is chosen once, at the training's start, and fixed in the ledger: one that goes on after its worker died learns from
the same. It must not know a network.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from db import digits, examples
from db.queue import trainings
from db.queue.leases import Lease
from training.arrays import Int64, Uint8
from training.data.dataset import Dataset
from training.data.files import load_configured
from training.data.mixing import Material, choose, digests_of, mixed
from worker.runtime import Runtime

log = logging.getLogger(__name__)

MOST = 200_000  # stored digits of one training, evenly drawn from more: 157 MB of pixels, and twice that while mixed
PAGE = 4096  # digits whose pixels are read at a time


class Learnt(NamedTuple):
    """The images that a training learns from, and how many of them are whose."""

    data: Dataset
    of_data_set: int
    stored: int


def gather(lease: Lease, runtime: Runtime) -> Learnt:
    """What a training learns from, of at most MOST stored digits. Raises DataError, LeaseLost.

    Memory: the data set, 784 bytes for each stored digit, and both once more while they are mixed.
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
        lists = (each.tolist() for each in material)
        runtime.transact(trainings.keep_material, lease, **dict(zip(material._fields, lists, strict=True)))
        pixels = pixels_of(material, runtime)
    if pixels is None:
        raise ValueError("stored digits were deleted while they were read: start the training again")
    count = 0 if data is None else len(data.train_images) - len(material.left_out)
    return Learnt(mixed(material, pixels, data), count, len(material.digits))


def fixed(lease: Lease, runtime: Runtime) -> Material | None:
    """What was chosen by a worker before this one."""
    row = runtime.transact(trainings.material, lease.job)
    if row is None:
        return None
    return Material(*(np.array(each, np.int64) for each in (row.digits, row.labels, row.left_out)))


def pixels_of(material: Material, runtime: Runtime) -> Uint8 | None:
    """(n, 784) uint8 of the stored digits; None where some were deleted: they are to be learnt from no more."""
    pixels: Uint8 = np.empty((len(material.digits), digits.PIXELS), np.uint8)
    for start in range(0, len(pixels), PAGE):
        ids = material.digits[start : start + PAGE].tolist()
        found = runtime.transact(digits.pixels_of, ids)
        if len(found.ids) < len(ids):
            log.warning("%d digits that a training learns from were deleted", len(ids) - len(found.ids))
            return None
        pixels[start : start + PAGE] = found.pixels
    return pixels


def chosen(data: Dataset | None, runtime: Runtime, *, stored: bool) -> Material:
    """Choose among the digits that are stored now, read page by page. Raises DataError.

    What is remembered of those that are held out is bounded by what they are compared with.
    """
    ids, labels, hashes = labelled(runtime) if stored else (np.empty(0, np.int64), np.empty(0, np.int64), [])
    compared = {*hashes, *(digests_of(data.train_images) if data is not None else ())}
    held: set[bytes] = set()
    after: int | None = 0
    while after is not None:
        page = runtime.transact(examples.page, after=after, share=0)
        held |= page.held & compared
        after = page.upto
    material = choose(ids, labels, hashes, held=held, data=data)
    log.info("learn from %d stored digits and leave out %d images", len(material.digits), len(material.left_out))
    return material


def labelled(runtime: Runtime) -> tuple[Int64, Int64, list[bytes]]:
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
