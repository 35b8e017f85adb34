"""Run the towers over a batch and store its vectors: new digits on `embed`, stored ones on `reembed`."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from db import towers
from db.batches import Lease, Vectors, finish, set_aside
from db.digits import pixels_of
from db.errors import BadVectors, Fenced, TowersChanged
from tasks.announce import announce
from twinvec_client.messages import EmbedBatch, FillBatch
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]


@app.task(name=EmbedBatch.task)
def embed_batch(**payload: Any) -> None:
    embed(EmbedBatch.read(payload).batch, runtime())


@app.task(name=FillBatch.task)
def fill_batch(**payload: Any) -> None:
    embed(FillBatch.read(payload).batch, runtime())


def embed(batch: int, runtime: Runtime) -> None:
    """Embed a batch if it can be claimed. Its vectors and its end are one transaction, fenced by its token."""
    lease = runtime.claim(batch)
    if lease is None:
        return
    try:
        with runtime.holding(lease):
            embed_leased(lease, runtime)
    except Fenced as fenced:
        log.warning("dropped the work on batch %d: %s", batch, fenced)
    if lease.calls_back:
        announce(runtime, lease.job)


def embed_leased(lease: Lease, runtime: Runtime) -> None:
    """Read, compute, write. Raises Fenced."""
    start = time.perf_counter()
    digits, pixels = runtime.transact(lambda session: pixels_of(session, lease.digits))
    read = time.perf_counter()
    vectors = {tower: runtime.towers[tower](pixels) for tower in lease.towers}
    computed = time.perf_counter()
    seconds = {"wait": lease.waited, "read": read - start, "tower": computed - read}
    count = store(lease, digits, pixels, vectors, seconds, runtime)
    log.info(
        "embedded %d digits of batch %d of job %s under towers %s: read %.3f s, tower %.3f s, write %.3f s",
        count,
        lease.batch,
        lease.job,
        list(lease.towers),
        read - start,
        computed - read,
        time.perf_counter() - computed,
    )


def store(
    lease: Lease, digits: Array, pixels: Array, vectors: Vectors, seconds: dict[str, float], runtime: Runtime
) -> int:
    """Finish the batch, under a tower that came up meanwhile as well; how many digits have their vectors now.

    Raises Fenced.
    """
    try:
        return runtime.transact(lambda session: finish(session, lease, digits, vectors, seconds))
    except TowersChanged as change:
        more = {tower: runtime.towers[tower](pixels) for tower in change.missing}
        return store(lease, digits, pixels, vectors | more, seconds, runtime)
    except BadVectors as bad:
        log.warning("batch %d: %s", lease.batch, bad)
        return store_the_rest(lease, digits, pixels, vectors, seconds, runtime, bad)


def store_the_rest(
    lease: Lease,
    digits: Array,
    pixels: Array,
    vectors: Vectors,
    seconds: dict[str, float],
    runtime: Runtime,
    bad: BadVectors,
) -> int:
    """Finish without what is no vector: a candidate that gives such is given up, the live tower's digits set aside."""
    if runtime.transact(lambda session: towers.reject(session, bad.tower, str(bad))):
        return store(lease, digits, pixels, vectors, seconds, runtime)
    rest = runtime.transact(lambda session: set_aside(session, lease, bad.digits, "not_finite", str(bad)))
    keep = ~np.isin(digits, bad.digits)
    kept = {tower: rows[keep] for tower, rows in vectors.items()}
    return store(rest, digits[keep], pixels[keep], kept, seconds, runtime)
