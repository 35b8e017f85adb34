"""Requests that change which tower is live, on the lane `control`. It must not load a model."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.orm import Session

from db.queue import actions
from db.vectors import backfill, lifecycle, towers
from tasks.answering import answering
from tasks.upkeep import sweep
from twinvec_client.contract.messages import JudgeAgain, Promote, Retire, RollBack, ShowBackfill
from worker.app import app
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)


@app.task(name=Promote.task, ignore_result=False)
@answering
def promote(**payload: Any) -> dict[str, Any]:
    return let_go_live(Promote.read(payload), runtime())


@app.task(name=RollBack.task, ignore_result=False)
@answering
def roll_back(**payload: Any) -> dict[str, Any]:
    return go_back(RollBack.read(payload), runtime())


@app.task(name=Retire.task, ignore_result=False)
@answering
def retire(**payload: Any) -> dict[str, Any]:
    return take_away(Retire.read(payload), runtime())


@app.task(name=JudgeAgain.task, ignore_result=False)
@answering
def judge_again(**payload: Any) -> dict[str, Any]:
    return have_judged(JudgeAgain.read(payload), runtime())


@app.task(name=ShowBackfill.task, ignore_result=False)
@answering
def show_backfill(**_: Any) -> dict[str, Any]:
    return runtime().transact_long(backfills)


def backfills(session: Session) -> dict[str, Any]:
    """Those that go on, and what one under a new tower would take."""
    running = [each._asdict() for each in backfill.progress(session)]
    return {"running": running, "estimate": backfill.estimate(session)._asdict()}


def let_go_live(request: Promote, runtime: Runtime) -> dict[str, Any]:
    """Raises UnknownTower, NotPromotable."""
    by, force, maintain = request.by, request.force, runtime.settings.maintain_previous
    promote = actions.recorded(
        lifecycle.promote, by, "promote", f"tower {request.tower}", {"force": True} if force else None
    )
    decided = runtime.transact_long(promote, request.tower, by=by, force=force, maintain=maintain)
    said = decided if isinstance(decided, str) else decided.rejected_because
    forced = ", whatever its verdict" if request.force else ""
    log.info("%s asked that tower %d go live%s: %s", request.by, request.tower, forced, said or "it is live")
    return _changed(request.tower, said, runtime)


def go_back(request: RollBack, runtime: Runtime) -> dict[str, Any]:
    """Raises NotPromotable."""
    maintain = runtime.settings.maintain_previous
    roll_back = actions.recorded(lifecycle.roll_back, request.by, "roll back", f"tower {request.leaving}")
    rollback = runtime.transact_long(roll_back, maintain=maintain, at_once=request.at_once, leaving=request.leaving)
    said = None
    if rollback.decision is None:
        said = f"{rollback.missing:,} digits are embedded under tower {rollback.tower} first; then it goes live"
    elif rollback.missing:
        said = f"{rollback.missing:,} digits are not found until they are embedded under it"
    log.info("%s asked for a rollback to tower %d: %s", request.by, rollback.tower, said or "it is live")
    return _changed(rollback.tower, said, runtime)


def take_away(request: Retire, runtime: Runtime) -> dict[str, Any]:
    """Raises UnknownTower, NotRetirable."""
    retire = actions.recorded(lifecycle.retire, request.by, "retire", f"tower {request.tower}")
    status = runtime.transact(retire, request.tower, by=request.by)
    log.info("%s retired tower %d: it is %s", request.by, request.tower, status)
    return _changed(request.tower, None, runtime)


def have_judged(request: JudgeAgain, runtime: Runtime) -> dict[str, Any]:
    """Raises UnknownTower, NotPromotable."""
    runtime.transact(lifecycle.judge_again, request.tower)
    return _changed(request.tower, "it is judged as soon as no vector is missing under it", runtime)


def _changed(tower: int, said: str | None, runtime: Runtime) -> dict[str, Any]:
    """What it is now, after a sweep, which publishes what was queued."""
    sweep(runtime)
    return {"said": said, **runtime.transact_long(_standing, tower)}


def _standing(session: Session, tower: int) -> dict[str, Any]:
    return {
        "tower": tower,
        "fingerprint": towers.fingerprint_of(session, tower),
        "status": towers.status_of(session, tower),
        "missing": backfill.count_missing(session, tower),
    }
