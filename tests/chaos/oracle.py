"""Judges a ledger after the faults, from the database alone: what is lost, stored twice, wrong, or unaccounted for."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Engine, select

from db.tables import Embedding
from tests.chaos.faults import Fault
from tests.chaos.fleet import Fleet
from tests.chaos.injected.matrix import product
from tests.chaos.ledger import Ledger
from tests.chaos.result import Result

TOLERANCE = 1e-5  # of one component: a picture's vector differs a little alone and in a batch
SHOWN = 20  # ids of what is at fault

Array = np.ndarray[Any, Any]
Reference = Callable[[int, Array], Array]  # tower, (n, 28, 28) uint8 -> (n, 128) float32


class Stored(Protocol):
    """What is judged: a ledger, and the engine of its database."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def engine(self) -> Engine: ...


@dataclass
class Verdict:
    """Keys of the digits at fault, and sentences for what adds up to something else than it should."""

    embedded: int = 0  # digits with a vector under the live tower
    failed: int = 0  # pictures among the failures
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # failures, sums, leases, open batches

    def write(self, result: Result) -> None:
        """Add this to a result."""
        result.lost = (result.lost or 0) + len(self.lost)
        result.duplicated = (result.duplicated or 0) + len(self.duplicated)
        result.wrong = (result.wrong or 0) + len(self.wrong)
        result.failed = (result.failed or 0) + self.failed
        for what in ("lost", "duplicated", "wrong"):
            if keys := getattr(self, what):
                result.problems.append(f"{len(keys)} {what}: {', '.join(sorted(keys)[:SHOWN])}")
        result.problems += self.faults


def judge(
    fleet: Stored,
    sent: Mapping[str, bytes],
    *,
    failing: Mapping[str, str] | None = None,
    collection: str = "default",
    reference: Reference = product,
    cancelled: bool = False,
) -> Verdict:
    """What became of the digits of one collection.

    sent: every key whose acceptance the client was told of -> SHA-256 of its pixels (all that was sent, or read from
    the picture). failing: every key that is to be among the failures -> its reason; any other failure is a fault.
    cancelled: whether jobs were cancelled on purpose; keys may then be missing.
    """
    verdict = Verdict()
    tower = fleet.ledger.one("SELECT id FROM towers WHERE status = 'live'")
    digits = {
        row.id: row
        for row in fleet.ledger.rows("SELECT id, key, pixels, sha256 FROM digits WHERE collection = :c", c=collection)
    }
    vectors = _vectors(fleet, tower, digits)
    reasons = {
        (row.key, row.reason)
        for row in fleet.ledger.rows(
            "SELECT key, reason FROM failures JOIN jobs ON id = job WHERE collection = :c", c=collection
        )
    }
    failures = {key for key, _ in reasons}
    by_key: dict[str, list[int]] = {}
    for id, row in digits.items():
        by_key.setdefault(row.key, []).append(id)
    embedded = {key for key, ids in by_key.items() if any(id in vectors for id in ids)}
    verdict.embedded, verdict.failed = len(vectors), len(failures)
    if not cancelled:
        verdict.lost = [key for key in sent if key not in embedded and key not in failures]
        known = failures | sent.keys()
        verdict.lost += [row.key for id, row in digits.items() if id not in vectors and row.key not in known]
    verdict.duplicated = [key for key, ids in by_key.items() if len(ids) > 1]
    verdict.duplicated += [key for key in embedded & failures if key in sent]
    verdict.duplicated += (
        [f"{len(fleet.ledger.rows(_TWICE))} vectors of one digit"] if fleet.ledger.rows(_TWICE) else []
    )
    verdict.duplicated += [f"vector of no digit {row.digit}" for row in fleet.ledger.rows(_ORPHANS)]
    verdict.wrong = [
        row.key
        for row in digits.values()
        if hashlib.sha256(row.pixels).digest() != row.sha256 or sent.get(row.key, row.sha256) != row.sha256
    ]
    verdict.wrong += _off(digits, vectors, tower, reference)
    verdict.faults = [*_unlike(reasons, set((failing or {}).items())), *left_open(fleet)]
    return verdict


def left_open(fleet: Stored) -> list[str]:
    """Sentences for jobs whose outcomes do not add up, leases past their time, and batches that have not ended."""
    faults = []
    for job in fleet.ledger.rows(_SUMS):
        if not job.total == job.items == job.outcomes:
            faults.append(f"job {job.id}: {job.total} sent, {job.items} accepted, {job.outcomes} accounted for")
    if overdue := fleet.ledger.rows("SELECT id FROM batches WHERE state = 'leased' AND lease_until < now()"):
        faults.append(f"leases past their time: batches {[row.id for row in overdue][:SHOWN]}")
    if left := fleet.ledger.rows("SELECT id, state FROM batches WHERE state IN ('queued', 'leased')"):
        faults.append(f"open batches: {[(row.id, row.state) for row in left][:SHOWN]}")
    return faults


def extra_work(fleet: Fleet) -> float:
    """Claims a batch beyond the one that each needs.

    Counted twice, by the ledger's attempts and by the injection's notes of claims, and the greater one is taken: an
    attempt that was given back is no longer in the ledger.
    """
    batches, attempts = fleet.ledger.rows(
        "SELECT count(*), coalesce(sum(attempt), 0) FROM batches JOIN jobs ON jobs.id = job "
        "WHERE kind IN ('embed', 'backfill') AND cardinality(digits) > 0 AND parent IS NULL AND attempt > 0"
    )[0]
    if not batches:
        return 0.0
    return max(int(attempts), len(fleet.injection.noted("claims"))) / int(batches) - 1


def recoveries(fleet: Fleet) -> list[float]:
    """Seconds from each kill whose victim held batches until the last of these was free for another worker."""
    return [fault.rescued - fault.at for fault in fleet.faults.noted if fault.rescued is not None]


def next_finish(fleet: Fleet, faults: Sequence[Fault], *, under_way: float = 0.0) -> list[float]:
    """Seconds from each fault to the first batch that was finished after it; a fault after the last one has none.

    under_way: seconds for which what was begun before a fault may still be finished in spite of it.
    """
    seconds = []
    for fault in faults:
        after = fleet.ledger.one(_NEXT, at=fault.at + under_way)
        if after is not None:
            seconds.append(float(after) - fault.at)
    return seconds


_TWICE = "SELECT tower, digit FROM embeddings GROUP BY tower, digit HAVING count(*) > 1"
_ORPHANS = "SELECT digit FROM embeddings LEFT JOIN digits ON id = digit WHERE id IS NULL"
_NEXT = """
    SELECT extract(epoch FROM min(finished_at)) FROM batches
    WHERE state = 'done' AND embedded > 0 AND finished_at > to_timestamp(:at)
"""


def _vectors(fleet: Stored, tower: int, digits: Mapping[int, Any]) -> dict[int, Array]:
    with fleet.engine.connect() as connection:
        rows = connection.execute(select(Embedding.digit, Embedding.vector).where(Embedding.tower == tower))
        return {row.digit: np.asarray(row.vector, np.float32) for row in rows if row.digit in digits}


def _off(digits: Mapping[int, Any], vectors: Mapping[int, Array], tower: int, reference: Reference) -> list[str]:
    """Keys of the digits whose vector is not the one that their stored pixels give."""
    ids = sorted(vectors)
    off = []
    for start in range(0, len(ids), 4096):
        part = ids[start : start + 4096]
        pixels = np.stack([np.frombuffer(digits[id].pixels, np.uint8).reshape(28, 28) for id in part])
        distance = np.abs(reference(tower, pixels) - np.stack([vectors[id] for id in part])).max(axis=1)
        off += [digits[id].key for id, far in zip(part, distance, strict=True) if not far <= TOLERANCE]
    return off


def _unlike(found: Set[tuple[str, str]], expected: Set[tuple[str, str]]) -> Iterator[str]:
    """Sentences for the (key, reason) that should not be, and for those that should."""
    for what, pairs in (("unexpected failures", found - expected), ("failures that are missing", expected - found)):
        if pairs:
            yield f"{len(pairs)} {what}: {', '.join(f'{key} ({why})' for key, why in sorted(pairs)[:SHOWN])}"


_SUMS = """
    SELECT jobs.id, CASE WHEN abandoned_at IS NULL THEN total ELSE coalesce(sum(items), 0) END AS total,
        coalesce(sum(items), 0) AS items,
        coalesce(sum(embedded + unchanged + failed + dropped), 0) AS outcomes
    FROM jobs LEFT JOIN batches ON job = jobs.id
    WHERE kind = 'embed' AND cancelled_at IS NULL GROUP BY jobs.id
"""
