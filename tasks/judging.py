"""Judge a candidate against the live tower, by the digits that both have embedded. It must not change a status itself:
what its verdict leads to is `db.vectors.lifecycle`'s affair.

It runs where towers run, on the lane `backfill`, since a sample is computed again. The lease, the fence and the sweep
see to it that it is done once, and again where its process dies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import judgements, locks
from db.errors import LeaseLost
from db.queue import trainings
from db.queue.finish import close_alone
from db.queue.leases import Lease
from db.states import JobKind
from db.tables import Tower
from db.vectors import asked, compared, lifecycle, search, towers, watch
from db.vectors.backfill import count_missing
from db.vectors.verdict import Reason, Verdict
from tasks.recomputing import recompute
from tasks.upkeep import sweep
from training.errors import TowerError
from training.fit.comparison import DECIDING, Measures, is_judged_same, measure
from training.fit.evaluation import MEASURES
from twinvec_client.contract.messages import JudgeBatch
from worker import metrics
from worker.app import app
from worker.logs import about
from worker.notices import notify
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)

TIME_LIMIT = 900  # seconds, after which its process is ended
HELD_OUT = 4_000  # digits that are compared at most: all pairs of them
ENOUGH = 500  # held-out digits; of fewer a difference says too little, and the towers' own test images decide
RECOMPUTED = 64  # stored vectors that are computed again
LOOKED_UP = 100  # digits whose neighbours under both towers are compared
NEIGHBOURS = 10
ASKED = 200  # pictures that were looked up meanwhile, asked under both towers

Array = np.ndarray[Any, Any]


@app.task(name=JudgeBatch.task, time_limit=TIME_LIMIT)
def judge_batch(**payload: Any) -> None:
    judge(JudgeBatch.read(payload).batch, runtime())


def judge(batch: int, runtime: Runtime) -> None:
    """Judge if the batch can be claimed. The verdict, what it leads to and the end of its job are one transaction."""
    lease = runtime.claim(batch, JobKind.JUDGE)
    if lease is None:
        return
    try:
        with runtime.holding([lease]):
            verdict = judged(lease.towers[0], runtime)
            noted = runtime.transact_long(close, lease, verdict)
            metrics.STAGE.labels("judge").observe(verdict.seconds)
    except LeaseLost as fenced:
        log.warning("dropped a verdict: %s", fenced)
        return
    tell_of(verdict, lease, noted=noted)
    notify([lease.job])
    sweep(runtime)  # at once: one that passed goes live


def close(session: Session, lease: Lease, verdict: Verdict) -> bool:
    """End the job, and note the verdict; False where it is not of the towers that stand now. Raises LeaseLost."""
    locks.change_towers(session)
    close_alone(session, lease, {"wait": lease.waited, "judge": verdict.seconds})
    trainings.end(session, lease.job, outcome={"tower": verdict.candidate, "passed": verdict.passed})
    noted = lifecycle.conclude(session, verdict)
    if noted:
        asked.forget(session)
    return noted


def tell_of(verdict: Verdict, lease: Lease, *, noted: bool) -> None:
    ids = about(job=lease.job, batch=lease.batch, tower=verdict.candidate)
    if not noted:
        log.info("judged tower %d in vain: it, or the live one, is another's by now", verdict.candidate, extra=ids)
    elif verdict.passed:
        said = "; ".join(reason.said for reason in verdict.reasons)
        log.info("judged tower %d in %.1f s, and it passed: %s", verdict.candidate, verdict.seconds, said, extra=ids)
    else:
        why = verdict.refused_because
        log.warning(
            "judged tower %d in %.1f s, and it did not pass: %s", verdict.candidate, verdict.seconds, why, extra=ids
        )


@dataclass
class Findings:
    """What was found by now. measured: by the names of the figures."""

    live: Tower
    candidate: Tower
    tolerance: float
    reasons: list[Reason] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)


def judged(candidate: int, runtime: Runtime) -> Verdict:
    """Compare the candidate with the live tower, and compute some of its vectors again. Nothing is written."""
    start = time.perf_counter()
    found = runtime.transact(lambda session: Findings(towers.live(session), _tower(session, candidate), 0))
    found.tolerance = runtime.settings.judge_tolerance
    for step in (complete, recomputed, told_apart, judged_pairs, changed_neighbours, real_queries):
        for reason in step(found, runtime):
            found.reasons.append(reason)
    return Verdict(
        candidate=candidate,
        live=found.live.id,
        reasons=found.reasons,
        figures=found.measured,
        judged_by=runtime.name,
        seconds=time.perf_counter() - start,
    )


def _tower(session: Session, id: int) -> Tower:
    return session.execute(select(Tower).where(Tower.id == id)).scalar_one()


def complete(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """Whether every digit that has a vector under the live tower has one under the candidate."""
    there, missing = runtime.transact_long(_count, found.live.id, found.candidate.id)
    found.measured["digits"] = {"live": there, "missing": missing}
    said = f"{missing:,} of {there:,} digits lack a vector under it"
    yield Reason(name="complete", live=0, candidate=missing, tolerance=0, passed=not missing, said=said)


def _count(session: Session, live: int, candidate: int) -> tuple[int, int]:
    return towers.count_vectors(session, live), count_missing(session, candidate)


def recomputed(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """Whether stored vectors are what the tower computes of the stored pixels now, in this process."""
    try:
        again = recompute(found.candidate.id, RECOMPUTED, runtime, seed=found.candidate.id)
    except TowerError as error:  # a file that cannot be loaded is a verdict as well
        yield Reason(name="loaded", passed=False, said=f"it cannot be loaded: {error}")
        return
    if not again.digits:
        return
    found.measured["recomputed"] = again._asdict()
    differ = "NaN or infinity" if again.worst is None else f"{again.worst:.1g}"
    yield Reason(
        name="recomputed",
        candidate=again.worst,
        tolerance=watch.ALARM,
        passed=again.worst is not None and again.worst <= watch.ALARM,
        said=f"{again.digits} vectors computed again differ by {differ} at most",
    )


def told_apart(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """How well each tower tells held-out digits apart; where few are stored, the images that each was tested on."""
    ids, vectors, labels = runtime.transact_long(_held_out, (found.live.id, found.candidate.id))
    if len(ids) < ENOUGH or len(np.unique(labels)) < 2:
        yield from tested(found, len(ids))
        return
    each = [measure(vectors[tower.id], labels, threshold=tower.threshold) for tower in (found.live, found.candidate)]
    live, candidate = each
    found.measured["held_out"] = {"digits": len(ids), "live": asdict(live), "candidate": asdict(candidate)}
    for name in DECIDING:
        yield _not_worse(name, live, candidate, f"{len(ids):,} held-out digits", found.tolerance)
    loss = candidate.threshold_loss
    said = f"its threshold of {found.candidate.threshold:.3f} judges {loss:.4f} of held-out pairs worse than the best"
    yield Reason(
        name="threshold",
        live=live.threshold_loss,
        candidate=loss,
        tolerance=found.tolerance,
        passed=loss <= live.threshold_loss + found.tolerance,
        said=said,
    )


def _held_out(session: Session, ids: tuple[int, int]) -> tuple[Array, dict[int, Array], Array]:
    labels = compared.held_out_digits(session, HELD_OUT)
    there = compared.both(session, ids, list(labels))
    return there.ids, there.vectors, np.array([labels[id] for id in there.ids.tolist()], np.int64)


def tested(found: Findings, held_out: int) -> Iterator[Reason]:
    """As each training measured its tower on its own test images."""
    live, candidate = found.live.metrics, found.candidate.metrics
    where = f"its test images ({held_out} held-out digits are stored: fewer than {ENOUGH})"
    shared = [name for name in DECIDING if name in live and name in candidate]
    pick = {name: {"live": live[name], "candidate": candidate[name]} for name in shared}
    found.measured["held_out"] = {"digits": held_out}
    found.measured["tested"] = pick
    for name in shared:
        yield _not_worse(name, live, candidate, where, found.tolerance)


def _not_worse(name: str, live: Any, candidate: Any, where: str, tolerance: float) -> Reason:
    """live, candidate: `Measures`, or what a training measured."""
    before, now = (asdict(each)[name] if isinstance(each, Measures) else each[name] for each in (live, candidate))
    said = (
        f"{MEASURES[name].long.split(',')[0]} on {where} is {now:.4f}, and {before:.4f} under the live tower: "
        f"{tolerance:g} less is accepted"
    )
    passed = bool(now >= before - tolerance)  # False for NaN as well
    return Reason(name=name, live=before, candidate=now, tolerance=tolerance, passed=passed, said=said)


def judged_pairs(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """Whether no judged pair that is right under the live tower is wrong under the candidate."""
    right = runtime.transact_long(_right_pairs, found.live, found.candidate)
    if not len(right[found.live.id]):
        return
    live, candidate = right[found.live.id], right[found.candidate.id]
    worse = int((live & ~candidate).sum())
    figures = {"pairs": len(live), "live": int(live.sum()), "candidate": int(candidate.sum()), "worse": worse}
    found.measured["judged_pairs"] = figures
    said = f"{worse:,} of {len(live):,} judged pairs are wrong under it and right under the live tower"
    yield Reason(
        name="judged_pairs",
        live=figures["live"],
        candidate=figures["candidate"],
        tolerance=0,
        passed=not worse,
        said=said,
    )


def _right_pairs(session: Session, live: Tower, candidate: Tower) -> dict[int, Array]:
    """Of each judged pair that both have embedded, whether each tower's threshold is right, by tower."""
    pairs = judgements.pairs(session)
    there = compared.both(session, (live.id, candidate.id), [id for pair in pairs for id in (pair.first, pair.second)])
    at = {id: row for row, id in enumerate(there.ids.tolist())}
    known = [pair for pair in pairs if pair.first in at and pair.second in at]
    first, second = ([at[getattr(pair, end)] for pair in known] for end in ("first", "second"))
    same = np.array([pair.same for pair in known], bool)
    right = {}
    for tower in (live, candidate):
        vectors = there.vectors[tower.id]
        judged_same = is_judged_same(vectors[first], vectors[second], threshold=tower.threshold) if known else same
        right[tower.id] = judged_same == same
    return right


def changed_neighbours(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """How many of the nearest neighbours of stored digits are others under the candidate. It decides nothing."""
    overlaps = runtime.transact(_overlaps, found.live.id, found.candidate.id)
    if not overlaps:
        return
    changed = 1 - float(np.mean(overlaps))
    found.measured["neighbours"] = {"digits": len(overlaps), "changed": changed}
    said = f"of the nearest {NEIGHBOURS} of {len(overlaps)} digits {changed:.0%} are others"
    yield Reason(name="neighbours", candidate=changed, passed=True, said=said)


def _overlaps(session: Session, live: int, candidate: int) -> list[float]:
    """Of each of some digits, the share of its neighbours under the live tower that it has under the candidate too."""
    search.begin(session)
    ids = compared.some_digits(session, live, LOOKED_UP, seed=candidate)
    if not ids:
        return []
    there = compared.both(session, (live, candidate), ids)
    found = [
        compared.neighbours(session, tower, there.vectors[tower], NEIGHBOURS, leave_out=there.ids.tolist())
        for tower in (live, candidate)
    ]
    return [overlap for one, other in zip(*found, strict=True) if (overlap := _overlap(one, other)) is not None]


def _overlap(one: list[search.Neighbour], other: list[search.Neighbour]) -> float | None:
    """None where there is no neighbour."""
    names = [{(neighbour.collection, neighbour.key) for neighbour in each} for each in (one, other)]
    return len(names[0] & names[1]) / len(names[0]) if names[0] else None


def real_queries(found: Findings, runtime: Runtime) -> Iterator[Reason]:
    """How far the two towers agree on what was looked up while the candidate was filled. It decides nothing."""
    glyphs = runtime.transact(asked.newest, ASKED)
    if not len(glyphs):
        return
    ids = (found.live.id, found.candidate.id)
    vectors = {tower: runtime.towers[tower](glyphs) for tower in ids}
    near = runtime.transact(_answers, vectors)
    pairs = list(zip(near[ids[0]], near[ids[1]], strict=True))
    overlaps = [overlap for one, other in pairs if (overlap := _overlap(one, other)) is not None]
    if not overlaps:
        return
    elected = [tuple(_elected(each) for each in pair) for pair in pairs]
    named = [one == other for one, other in elected if one is not None]
    overlap, agreement = float(np.mean(overlaps)), float(np.mean(named)) if named else None
    found.measured["real_queries"] = {"queries": len(overlaps), "overlap": overlap, "agreement": agreement}
    labels = "" if agreement is None else f", and {agreement:.0%} have the same label"
    same = f"{overlap:.0%} of the nearest {NEIGHBOURS} are the same{labels}"
    said = f"of {len(overlaps)} pictures that were looked up, {same}"
    yield Reason(name="real_queries", candidate=overlap, passed=True, said=said)


def _answers(session: Session, vectors: dict[int, Array]) -> dict[int, list[list[search.Neighbour]]]:
    search.begin(session)
    return {tower: compared.neighbours(session, tower, rows, NEIGHBOURS) for tower, rows in vectors.items()}


def _elected(neighbours: list[search.Neighbour]) -> int | None:
    """The label of most of them, of the nearer where that is a tie; None where none has one."""
    labels = [neighbour.label for neighbour in neighbours if neighbour.label is not None]
    return max(labels, key=lambda label: (labels.count(label), -labels.index(label)), default=None)
