"""A data set and stored digits, mixed: which images of both are learnt from. It must not know where digits are stored.

A picture is on one side alone: what judges a tower, as a test image or held out, is not learnt from under any name.
Where a stored digit has the pixels of a training image, its own label counts, for somebody gave it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from training.arrays import SIDE, AnyArray, Bool, Int64, Uint8
from training.data.dataset import Dataset, JudgedImages
from training.data.files import split
from training.errors import DataError

FEWEST = 3  # stored digits of a class: two to learn from, one for the test


class Material(NamedTuple):
    """What is learnt from: stored digits (n,) by their ids, ascending, with labels (n,), and a data set.

    left_out: (m,) positions of the training images of the data set that are not. pairs: (2p,) ids of stored digits, two
    for each judged pair; same: (p,) bool, whether they show the same.
    """

    digits: Int64
    labels: Int64
    left_out: Int64
    pairs: Int64
    same: Bool


def digests_of(images: Uint8) -> list[bytes]:
    """The SHA-256 of each of (n, 28, 28) uint8."""
    return [sha256(image).digest() for image in np.ascontiguousarray(images)]


class Stored(NamedTuple):
    """Stored digits that may be learnt from: ids and labels (n,), ascending by id, and the SHA-256 of their pixels.

    pairs, pair_digests: (2p,) ids and the same of judged pairs, two for each. same: (p,) bool.
    """

    ids: Int64
    labels: Int64
    digests: Sequence[bytes]
    pairs: Int64
    pair_digests: Sequence[bytes]
    same: Bool


def choose(stored: Stored, *, held: Set[bytes], data: Dataset | None) -> Material:
    """Which of the stored digits and pairs, and of a data set's training images, are learnt from.

    held: of the pixels that are held out. data: None where stored digits are learnt from alone; classes with fewer than
    FEWEST of them are then left out. Of digits with the same pixels the first is taken. Raises DataError where a label
    is of another classification than the data set's, and where nothing is left.
    """
    ids, labels, digests = stored.ids, stored.labels, stored.digests
    if data is not None:
        _require_known(labels, data)
    judging = held | set(digests_of(data.test_images)) if data is not None else set(held)
    free = np.array([digest not in judging for digest in stored.pair_digests], np.bool_).reshape(-1, 2).all(axis=1)
    pairs, same = stored.pairs.reshape(-1, 2)[free].reshape(-1), stored.same[free]
    seen, kept = set(judging), []
    for at, digest in enumerate(digests):
        if digest not in seen:
            seen.add(digest)
            kept.append(at)
    taken = np.array(kept, np.int64)
    if data is None:
        classes, places, sizes = np.unique(labels[taken], return_inverse=True, return_counts=True)
        taken = taken[sizes[places] >= FEWEST] if len(classes) else taken
        if not len(taken):
            raise DataError(
                "No stored digit has a label to learn from. Give labels with `twinvec label`, or learn from `mnist`."
            )
        return Material(ids[taken], labels[taken], np.empty(0, np.int64), pairs, same)
    known = {digests[at] for at in kept}
    left_out = [at for at, digest in enumerate(digests_of(data.train_images)) if digest in held or digest in known]
    return Material(ids[taken], labels[taken], np.array(left_out, np.int64), pairs, same)


def _require_known(labels: Int64, data: Dataset) -> None:
    strange = np.setdiff1d(labels, data.train_labels)
    if len(strange):
        count = int(np.isin(labels, strange).sum())
        shown = ", ".join(map(str, strange[:5].tolist())) + (" and others" if len(strange) > 5 else "")
        raise DataError(
            f"{count:,} stored digits have labels that {data.source} does not have: {shown}. "
            "Learn from `stored` digits alone, or give them other labels."
        )


def mixed(material: Material, pixels: Uint8, paired: Uint8, data: Dataset | None) -> Dataset:
    """The images that are learnt from, and the data set's test images; without one, one in six stored digits for those.

    pixels: (n, 784) uint8 of the stored digits, paired: (2p, 784) of the judged pairs. Beyond these it holds all once
    more, in memory.
    """
    images, twins = _mixed(material, pixels, data), paired.reshape(-1, 2, SIDE, SIDE)
    return replace(images, judged=JudgedImages(twins[:, 0], twins[:, 1], material.same)) if len(twins) else images


def _mixed(material: Material, pixels: Uint8, data: Dataset | None) -> Dataset:
    images, count = pixels.reshape(-1, SIDE, SIDE), len(material.digits)
    if data is None:
        return split(images, material.labels, f"{count:,} stored digits")
    if not count and not len(material.left_out):
        return data
    rest: AnyArray = np.delete(np.arange(len(data.train_images)), material.left_out)
    return replace(
        data,
        train_images=np.concatenate([data.train_images[rest], images]),
        train_labels=np.concatenate([data.train_labels[rest], material.labels.astype(np.uint8)]),
        source=f"{data.source} and {count:,} stored digits" if count else data.source,
    )
