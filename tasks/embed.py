"""Embed a batch: new digits on the lane `embed`, stored ones on `backfill`. It must not know files or queries."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy.exc import DBAPIError

from db.digits import Glyphs, doubt, pixels_of
from db.errors import BadVectors, LeaseLost, TowersChanged
from db.queue.finish import Vectors, finish, quarantine
from db.queue.leases import Lease, give_back
from db.states import JobKind, TowerStatus
from db.vectors import lifecycle, towers
from tasks.announce import announce_job
from tasks.gating import of_live
from training.errors import TowerError
from twinvec_client.contract.messages import BackfillBatch, EmbedBatch
from worker import metrics
from worker.app import app
from worker.logs import about
from worker.notices import notify
from worker.outbox import publish
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

GOES_ON = 1.0  # seconds that a message embeds what is due; then its lane's others have their turn
TIME_LIMIT = 300  # seconds for a batch, after which its process is ended; 4,096 digits take one

Array = np.ndarray[Any, Any]


@app.task(name=EmbedBatch.task, time_limit=TIME_LIMIT)
def embed_batch(**payload: Any) -> None:
    embed_in_turn(EmbedBatch.read(payload).batch, runtime())


@app.task(name=BackfillBatch.task, time_limit=TIME_LIMIT)
def backfill_batch(**payload: Any) -> None:
    embed(BackfillBatch.read(payload).batch, runtime())


def embed_in_turn(batch: int, runtime: Runtime) -> None:
    """Embed the batch whose turn it is, and for a moment those that are due after it, whose own messages then find
    other ones or none.

    While one is written, the next is claimed and read: neither waits for a database that is far away.
    """
    claimed: Sequence[Lease] = runtime.claim_next(batch)
    digits, until = None, time.monotonic() + GOES_ON
    with ThreadPoolExecutor(1, "ahead") as thread:
        while claimed:
            following = None
            # Beside one that may have crashed its worker, none: it would count as a crash of that one too.
            if time.monotonic() < until and all(lease.attempt == 1 for lease in claimed):
                following = Following(runtime, thread)
            try:
                embed_claimed(claimed, runtime, digits=digits, following=following)
            except BaseException:
                for lease in [] if following is None else following.result()[0]:
                    runtime.give_back(lease, None)
                raise
            claimed, digits = ([], None) if following is None else following.result()


class Following:
    """The batch after the one that is written, claimed and read in a thread of its own."""

    def __init__(self, runtime: Runtime, thread: ThreadPoolExecutor) -> None:
        self._runtime, self._thread = runtime, thread
        self._found: Future[tuple[Sequence[Lease], Glyphs | None]] | None = None

    def start(self) -> None:
        self._found = self._thread.submit(self._find)

    def result(self) -> tuple[Sequence[Lease], Glyphs | None]:
        """What was claimed, and its pixels; nothing where nothing was due, or it was not started."""
        return ([], None) if self._found is None else self._found.result()

    def _find(self) -> tuple[Sequence[Lease], Glyphs | None]:
        try:
            leases = self._runtime.claim_next(None)
        except DBAPIError as error:  # its message, or the sweep, is another try
            log.warning("could not claim the next batch: %s", error.orig)
            return [], None
        try:
            return leases, glyphs_of(leases, self._runtime) if leases else None
        except DBAPIError:  # it is read again when its turn has come, which says what is wrong
            return leases, None


def glyphs_of(leases: Sequence[Lease], runtime: Runtime) -> Glyphs:
    """The pixels of batches."""
    return runtime.transact(pixels_of, sorted({id for lease in leases for id in lease.digits}), ends=True)


def embed(batch: int, runtime: Runtime) -> set[int]:
    """Embed a batch if it can be claimed; a small one together with other small ones that are queued: which those were.

    Their vectors and their new state are one transaction, fenced by their tokens.
    """
    return embed_claimed(runtime.claim_together(batch), runtime)


def embed_claimed(
    leases: Sequence[Lease],
    runtime: Runtime,
    *,
    loads: bool = True,
    digits: Glyphs | None = None,
    following: Following | None = None,
) -> set[int]:
    """As `embed`, what was claimed already. loads: whether this process may wait for a tower that it has to load; else
    what needs one is left to a worker of the lane `embed`. digits: where they were read already. following: is started
    when these are written.
    """
    if not leases:
        return set()
    if not loads and not all([runtime.towers.prepare(tower) for tower in leases[0].towers]):
        leave(leases, runtime)
        return {lease.batch for lease in leases}
    try:
        with runtime.holding(leases):
            embed_leased(leases, runtime, digits, following)
    except LeaseLost as fenced:
        metrics.LOST.inc()
        log.warning("dropped work: %s", fenced)
    notify(lease.job for lease in leases)
    for lease in leases:
        if lease.calls_back:
            announce_job(runtime, lease.job)
    return {lease.batch for lease in leases}


def leave(leases: Sequence[Lease], runtime: Runtime) -> None:
    """Give batches back, for another worker to take at once."""
    for lease in leases:
        runtime.transact(give_back, lease)
    publish([(lease.batch, lease.kind) for lease in leases])
    log.info("left %d batches to another worker while a tower is loaded", len(leases))


@dataclass(frozen=True)
class Work:
    """Batches that were claimed together, with their pixels and vectors.

    digits: (n,) ids, ascending. pixels: (n, 784) uint8. vectors: (n, 128) float32 by tower. seconds: spent by stage.
    """

    leases: Sequence[Lease]
    digits: Array
    pixels: Array
    vectors: Vectors
    seconds: dict[str, float]

    def part(self, lease: Lease, rows: Array) -> Work:
        """One batch's share: `rows` is (n,) bool."""
        vectors = {tower: found[rows] for tower, found in self.vectors.items()}
        return Work([lease], self.digits[rows], self.pixels[rows], vectors, self.seconds)


def embed_leased(
    leases: Sequence[Lease], runtime: Runtime, digits: Glyphs | None = None, following: Following | None = None
) -> None:
    """Read, compute, write. Raises LeaseLost."""
    start = time.perf_counter()
    digits = digits or glyphs_of(leases, runtime)
    read = time.perf_counter()
    vectors = compute(leases[0].towers, digits.pixels, runtime)
    if leases[0].kind == JobKind.EMBED:
        mark_doubtful(digits, vectors, runtime)
    computed = time.perf_counter()
    seconds = {"read": read - start, "tower": computed - read}
    if following is not None:
        following.start()
    count = store(Work(leases, digits.ids, digits.pixels, vectors, seconds), runtime)
    written = time.perf_counter()
    metrics.count_embedded(leases, count, seconds | {"write": written - computed})
    log.info(
        "embedded %d digits of %s under towers %s: read %.3f s, tower %.3f s, write %.3f s",
        count,
        f"batch {leases[0].batch} of job {leases[0].job}" if len(leases) == 1 else f"{len(leases)} small batches",
        list(leases[0].towers),
        read - start,
        computed - read,
        written - computed,
        extra=_about(leases),
    )


def _about(leases: Sequence[Lease]) -> dict[str, Any]:
    if len(leases) == 1:
        return about(job=leases[0].job, batch=leases[0].batch)
    return about(jobs=sorted({str(lease.job) for lease in leases}), batches=[lease.batch for lease in leases])


def compute(towers: Sequence[int], pixels: Array, runtime: Runtime) -> Vectors:
    """Vectors by tower of pixels (n, 784). One that cannot be loaded is given up unless it is live, and left out: new
    digits must not wait for it. Raises TowerError where the live one cannot be loaded."""
    vectors: Vectors = {}
    for tower in towers:
        try:
            embed = runtime.towers[tower]
        except TowerError as error:
            if not runtime.transact(lifecycle.give_up, tower, f"it cannot be loaded: {error}"):
                raise
            log.error("gave tower %d up: it cannot be loaded: %s", tower, error)
        else:
            vectors[tower] = embed(pixels)
    return vectors


def mark_doubtful(digits: Glyphs, vectors: Vectors, runtime: Runtime) -> None:
    """Mark those that were made of a picture and that the live tower's gate does not pass.

    In a transaction before that of the vectors: locks of digits' rows, which intake holds as well, come first.
    """
    if not digits.made.any() or (live := runtime.transact(of_live)) is None or live[0] not in vectors:
        return
    tower, gate = live
    doubted = gate.doubts(digits.pixels[digits.made], vectors[tower][digits.made])
    if doubted.any():
        runtime.transact(doubt, digits.ids[digits.made][doubted].tolist())


def store(work: Work, runtime: Runtime, lenient: frozenset[int] = frozenset()) -> int:
    """Finish batches, also under a tower that was registered meanwhile; how many digits have their vectors now.

    Where several cannot be finished together, each is finished alone. lenient: towers under which some may be missing.
    Raises LeaseLost if there is one, and it is lost.
    """
    try:
        return runtime.transact(
            finish, work.leases, work.digits, work.vectors, work.seconds, lenient=lenient, ends=True
        )
    except TowersChanged as change:
        more = compute(tuple(change.missing), work.pixels, runtime)
        return store(replace(work, vectors=work.vectors | more), runtime, lenient)
    except LeaseLost:
        if len(work.leases) == 1:
            raise
    except BadVectors as bad:
        if len(work.leases) == 1:
            return store_the_rest(work, bad, runtime, lenient)
    return store_one_by_one(work, runtime)


def store_one_by_one(work: Work, runtime: Runtime) -> int:
    """Finish each batch in a transaction of its own, so that a lost lease or a bad vector affects one batch only."""
    count = 0
    for lease in work.leases:
        try:
            count += store(work.part(lease, np.isin(work.digits, lease.digits)), runtime)
        except LeaseLost as fenced:
            metrics.LOST.inc()
            log.warning("dropped work: %s", fenced)
    return count


def store_the_rest(work: Work, bad: BadVectors, runtime: Runtime, lenient: frozenset[int]) -> int:
    """Finish without the non-finite vectors. A candidate that computed them is rejected; under the previous tower new
    digits may do without; else their digits are dead."""
    (lease,) = work.leases
    log.warning("batch %d: %s", lease.batch, bad, extra=about(job=lease.job, batch=lease.batch))
    if runtime.transact(lifecycle.reject, bad.tower, str(bad), criterion="finite"):
        return store(work, runtime, lenient)
    if lease.kind == JobKind.EMBED and runtime.transact(towers.status_of, bad.tower) == TowerStatus.PREVIOUS:
        return store(work, runtime, lenient | {bad.tower})
    kept = runtime.settings.job_failure_bytes
    rest = runtime.transact(quarantine, lease, bad.digits, "not_finite", str(bad), kept_bytes=kept)
    if lease.kind == JobKind.EMBED:
        metrics.count_failed(["not_finite"] * (len(lease.digits) - len(rest.digits)))
    return store(work.part(rest, ~np.isin(work.digits, bad.digits)), runtime, lenient)
