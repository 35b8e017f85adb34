"""What tests of the ledger are made of: pictures, chunks, towers one can compute in one's head, and a worker's steps.

Functions that touch the ledger take `ledger`, which runs a function of a session in a transaction of its own.
"""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db import digits
from db.queue import finish as finishing
from db.queue import jobs, leases, retention, trainings
from db.queue import rescue as rescuing
from db.queue.failures import FailedItem
from db.queue.intake import Item, Pictures, Submission, accept
from db.queue.leases import Lease
from db.queue.retention import START, Keep, Pruned
from db.tables import Batch, Digit, Embedding, Failure
from db.vectors import backfill, lifecycle, search, towers
from db.vectors.filters import Filters
from db.vectors.frame import Frame
from db.vectors.frames import FRAMES
from db.vectors.lifecycle import NewTower
from db.vectors.search import Found, Query, Wanted
from db.vectors.verdict import Reason, Verdict
from training.fit.gate import Gate

Array = np.ndarray[Any, Any]
Ledger = Callable[..., Any]

MAX_ATTEMPTS = 3
MAX_ERRORS = 12


def glyph(seed: int) -> bytes:
    """784 bytes, others for every seed; set as MNIST's digits are, so they are taken as they are."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 4:24] = symmetric(seed)
    return pixels.tobytes()


def symmetric(seed: int) -> Array:
    """(20, 20) uint8 without zeros, the same when it is turned by half."""
    half = np.random.default_rng(seed).integers(1, 256, (10, 20), np.uint8)
    return np.concatenate([half, half[::-1, ::-1]])


def item(key: str, seed: int, label: int | None = None, attributes: dict[str, Any] | None = None) -> Item:
    return Item(key, glyph(seed), label, attributes)


def picked(tower: int, pixels: Array) -> Array:
    """(n, 784) uint8 -> (n, 128) float32: the stand-in for tower `tower` picks 128 pixels, others than its neighbours.

    No two of glyph's pictures come to the same vector.
    """
    vectors: Array = pixels.reshape(-1, 784)[:, (np.arange(128) * 6 + tower) % 784].astype(np.float32)
    return vectors


class PickedPixels:
    """Stands where `worker.tower_cache.TowerCache` does."""

    def __getitem__(self, tower: int) -> Callable[[Array], Array]:
        return lambda pixels: picked(tower, pixels)

    def known_as(self, tower: int, fingerprint: str) -> Callable[[Array], Array]:
        return self[tower]

    def warm_up(self) -> None:
        """Nothing to load."""

    def prepare(self, tower: int) -> bool:
        """Nothing to load."""
        return True


def vector(tower: int, seed: int) -> Array:
    """The (128,) float32 that `glyph(seed)` has under a stand-in tower."""
    found: Array = picked(tower, np.frombuffer(glyph(seed), np.uint8))[0]
    return found


def trained(name: str) -> NewTower:
    """A tower as a training hands it to `register`; the same name is the same weights."""
    file = name.encode()
    return NewTower(
        fingerprint=hashlib.sha256(file).hexdigest(),
        file=file,
        recipe="notebook",
        settings={"epochs": 5},
        seed=0,
        data_digest="0" * 64,
        versions={"numpy": np.__version__},
        metrics={"pair_accuracy": 0.97},
        history={"loss": [0.1, 0.05]},
        threshold=0.5,
        frame=_frame(),
    )


def fitted(name: str) -> SimpleNamespace:
    """The same, as the recipe hands it to the task: with vectors of the training images."""
    vectors = np.eye(128, dtype=np.float32)
    glyphs = np.random.default_rng(0).integers(0, 256, (128, 28, 28), np.uint8)
    gate = Gate.fit(glyphs, np.arange(128) % 2, vectors, glyphs, vectors)
    return SimpleNamespace(**vars(trained(name)) | {"vectors": vectors, "gate": gate})


@cache
def _frame() -> bytes:
    """Of the space of a stand-in: none prunes, for its vectors are random."""
    pixels = np.stack([np.frombuffer(glyph(10**6 + seed), np.uint8) for seed in range(512)])
    return Frame.fit(picked(1, pixels)).to_bytes()


def register(ledger: Ledger, name: str = "first") -> int:
    """Register a tower; its id."""
    return int(ledger(lambda session: lifecycle.register(session, trained(name)).id))


def pass_judging(ledger: Ledger, *, passes: bool = True) -> int | None:
    """One round of upkeep that opens a judging, and its end; the tower that was judged. passes: whether it passed."""
    ledger(backfill.end_finished)
    opened = ledger(lifecycle.open_judging)
    if not isinstance(opened, int):
        return None
    lease = claim(ledger, opened)
    assert lease is not None
    (tower,) = lease.towers
    reasons = [Reason(name="for the test", live=1, candidate=1, tolerance=0, passed=passes, said="it was measured")]

    def close(session: Session) -> None:
        finishing.close_alone(session, lease, {})
        trainings.end(session, lease.job)
        live = towers.live(session).id
        assert lifecycle.conclude(session, Verdict(candidate=tower, live=live, reasons=reasons, figures={}))

    ledger(close)
    return tower


def promote(ledger: Ledger) -> int | None:
    """Judge the candidate where it is ready; the tower that went live."""
    pass_judging(ledger)
    decision = ledger(lifecycle.promote_ready)
    return None if decision is None or decision.rejected_because else decision.tower


def chunk(
    *items: Item,
    job: uuid.UUID | None = None,
    seq: int = 0,
    total: int | None = None,
    collection: str = "default",
    failures: Iterable[FailedItem] = (),
    open: bool = False,
    priority: int = 1,
) -> Submission:
    """A chunk; the last of its job, with the total of what it holds, unless a `total` is given or more are to come."""
    failures = list(failures)
    held = len(items) + len(failures)
    return Submission(
        job=job or uuid.uuid4(),
        seq=seq,
        collection=collection,
        items=Pictures.of(items),
        failures=failures,
        digest=hashlib.sha256(repr((items, failures)).encode()).digest(),
        total=None if open else held if total is None else total,
        priority=priority,
    )


def send(ledger: Ledger, *items: Item, **chunk_fields: Any) -> int | None:
    """Submit a chunk; its batch."""
    submission = chunk(*items, **chunk_fields)
    batch: int | None = ledger(accept, submission, ends=True).batch
    return batch


def nearest(ledger: Ledger, tower: int, query: Array, *, k: int, **given: Any) -> Found:
    """The k nearest of a vector, as a worker looks them up; the rest are fields of Query, Filters and Wanted."""
    asked = Query(query, **{name: given.pop(name) for name in ("leave_out", "after") if name in given})
    filters = Filters(**{name: given.pop(name) for name in Filters._fields if name in given})

    def look_up(session: Session) -> Found:
        search.begin(session)
        frame = FRAMES.of(session, tower)
        (found,) = search.nearest(session, tower, frame, [asked], Wanted(k, filters, **given))
        return found

    found: Found = ledger(look_up)
    return found


def digit_of(ledger: Ledger, key: str) -> int:
    """The id of the one digit with this key."""
    (found,) = ledger(digits.find_all, [(key, None)])
    return int(found)


def batch_of(ledger: Ledger, *items: Item, **chunk_fields: Any) -> int:
    """Submit a chunk with something to embed; its batch."""
    batch = send(ledger, *items, **chunk_fields)
    assert batch is not None, "nothing of it is to be embedded"
    return batch


def claim(ledger: Ledger, batch: int | None, *, lease: float = 60, worker: str = "worker") -> Lease | None:
    claimed: Lease | None = ledger(leases.claim, batch or 0, worker=worker, lease=lease, max_attempts=MAX_ATTEMPTS)
    return claimed


def computed(ledger: Ledger, lease: Lease) -> tuple[Array, dict[int, Array]]:
    """What a worker has in hand when it is about to finish: digit ids, and their vectors by tower."""
    ids, pixels, _ = ledger(digits.pixels_of, lease.digits)
    return ids, {tower: picked(tower, pixels) for tower in lease.towers}


def finish(ledger: Ledger, lease: Lease) -> int:
    """Compute and store a batch's vectors; how many."""
    ids, vectors = computed(ledger, lease)
    return int(ledger(finishing.finish, [lease], ids, vectors, {"tower": 0.5}, ends=True))


def embed(ledger: Ledger, batch: int | None) -> int:
    """Claim and finish a batch; how many digits it embedded."""
    lease = claim(ledger, batch)
    assert lease is not None
    return finish(ledger, lease)


def expire(ledger: Ledger, batch: int | None) -> None:
    """Let a lease run out now."""
    past = func.now() - text("interval '1 second'")
    ledger(
        lambda session: session.execute(
            update(Batch).where(Batch.id == batch, Batch.state == "leased").values(lease_until=past)
        )
    )


def rescue(ledger: Ledger) -> int:
    rescued: rescuing.Rescued = ledger(rescuing.rescue, max_attempts=MAX_ATTEMPTS, max_errors=MAX_ERRORS)
    return rescued.isolated


def die_on(ledger: Ledger, batch: int | None) -> None:
    """Claim a batch and never come back."""
    assert claim(ledger, batch) is not None
    expire(ledger, batch)


def bury(ledger: Ledger, batch: int | None) -> None:
    """Let workers die of a batch of one digit until it is tried no more."""
    for _ in range(MAX_ATTEMPTS):
        die_on(ledger, batch)
        rescue(ledger)


def status(ledger: Ledger, job: uuid.UUID) -> dict[str, Any]:
    return asdict(ledger(jobs.status, job))


def counts(ledger: Ledger, job: uuid.UUID) -> dict[str, int]:
    """What became of a job's pictures; zeros are left out."""
    found = status(ledger, job)
    named = {name: found[name] for name in ("accepted", "succeeded", "unchanged", "failed", "cancelled")}
    return {name: number for name, number in named.items() if number}


def failures(ledger: Ledger, job: uuid.UUID) -> dict[str, str]:
    """A job's failures: key to reason."""
    rows = ledger(lambda session: session.execute(select(Failure.key, Failure.reason).where(Failure.job == job)).all())
    return {key: reason for key, reason in rows}


def stored(ledger: Ledger, collection: str = "default") -> dict[str, bytes]:
    """The digits of a collection: key to pixels."""
    rows = ledger(
        lambda session: session.execute(select(Digit.key, Digit.pixels).where(Digit.collection == collection)).all()
    )
    return {key: pixels for key, pixels in rows}


def vectors(ledger: Ledger, tower: int) -> dict[str, Array]:
    """The vectors under a tower: key to (128,) float32. Fails on a vector without its digit."""
    rows = ledger(
        lambda session: session.execute(
            select(Digit.key, Embedding.vector)
            .outerjoin(Digit, Digit.id == Embedding.digit)
            .select_from(Embedding)
            .where(Embedding.tower == tower)
        ).all()
    )
    assert all(key is not None for key, _ in rows), "a vector stands without its digit"
    return {key: np.asarray(vector, np.float32) for key, vector in rows}


def row(ledger: Ledger, batch: int | None) -> Batch:
    found: Batch = ledger(lambda session: session.execute(select(Batch).where(Batch.id == batch)).scalar_one())
    return found


def states(ledger: Ledger, job: uuid.UUID) -> list[str]:
    """The states of a job's batches, in the order they were made."""
    return list(
        ledger(
            lambda session: (
                session.execute(select(Batch.state).where(Batch.job == job).order_by(Batch.id)).scalars().all()
            )
        )
    )


def tower_statuses(ledger: Ledger) -> dict[int, str]:
    return {tower.id: str(tower.status) for tower in ledger(towers.all_of_them)}


def together(*works: Callable[[], Any], seconds: float = 30) -> list[Any]:
    """Run functions at the same moment, each in a thread; what each returned. Raises what one raised."""
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(at: int) -> None:
        try:
            start.wait(seconds)
            results[at] = works[at]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), f"a thread has not come back after {seconds} s"
    if errors:
        raise errors[0]
    return results


def eventually(condition: Callable[[], bool], what: str, *, seconds: float = 10) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        pause.wait(0.01)


def age(ledger: Ledger, days: float) -> None:
    """Let so many days pass for all that the ledger holds."""
    times = {
        "jobs": ("created_at", "ended_at", "cancelled_at", "abandoned_at", "called_back_at"),
        "batches": ("created_at", "finished_at"),
        "failures": ("created_at",),
        "towers": ("created_at", "promoted_at", "live_until", "retired_at"),
    }
    for table, columns in times.items():
        moved = ", ".join(f"{column} = {column} - interval '{days} days'" for column in columns)
        ledger(lambda session, table=table, moved=moved: session.execute(text(f"UPDATE {table} SET {moved}")))


def prune(ledger: Ledger, keep: Keep | None = None, *, rows: int = 1000, **fields: Any) -> Pruned:
    """Prune until a pass is at its end; what went. fields: of `Keep`, in days, and `surplus`."""
    surplus = fields.pop("surplus", None)
    keep = keep or Keep(**fields)
    total, after = Pruned(), START
    while after is not None:
        gone, after = ledger(retention.prune_jobs, keep, after=after, rows=rows, surplus=surplus)
        total += gone
    return total


def peak(process: psutil.Process) -> int:
    """Bytes: the largest resident size since it was last set back."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
