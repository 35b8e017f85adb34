"""`twinvec pause`, `resume`, `drain` and `actions`: work is held back and let go on, and who asked for what."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, show, table
from cli.errors import CommandError
from cli.exit_codes import USAGE
from cli.inputs.ids import find_job
from cli.options import Json, Limit
from twinvec_client import Action, Lane, Pause, Twinvec, bars
from twinvec_client.contract.states import PausableLane

LANES: tuple[PausableLane, ...] = get_args(PausableLane)
LOOK_EVERY = 1.0  # seconds

_What = Annotated[str, typer.Argument(metavar="LANE|JOB", help=f"One of {', '.join(LANES)}; or a job's id, or `last`.")]
_Why = Annotated[str | None, typer.Option(help="Told wherever the pause is shown.")]


def pause(what: _What, why: _Why = None, json: Json = False) -> None:
    """Hold work back until `twinvec resume`: what waits on a lane, or of a job.

    What is worked on is finished; what waits stays where it is and costs no attempt. It stands in SQL: every worker
    sees it within 5 s, whatever is started again meanwhile. A paused intake takes in no pictures: clients wait, and
    say that it is paused and by whom.

    \b
    Example:
      twinvec pause embed --why "the database moves tonight"
      twinvec pause 0b9f3c52
    """
    tv = client()
    paused = tv.pause(**_target(tv, what), why=why)
    show(paused, lambda each: out.print(_said(what, each), highlight=False), as_json=json)


def resume(
    what: Annotated[
        str | None, typer.Argument(metavar="[LANE|JOB]", help="As `pause` takes it, and `doctor` names it.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every lane that is paused; jobs stay as they are.")] = False,
    json: Json = False,
) -> None:
    """Let a lane or a job go on that was paused or drained. What it held is published at once.

    \b
    Example:
      twinvec resume embed
      twinvec resume --all
    """
    if (what is None) != all:
        raise CommandError("name a lane or a job, or say --all", USAGE)
    tv = client()
    if what is not None:
        resumed = {what: tv.resume(**_target(tv, what))}
    else:
        resumed = {lane.name: tv.resume(lane=_lane(lane.name)) for lane in tv.overview(jobs=0).lanes if lane.paused}
    show(resumed, _list_resumed, as_json=json)


def drain(
    lanes: Annotated[
        list[str] | None, typer.Argument(metavar="[LANE]...", help=f"Of {', '.join(LANES)}; all four if none is named.")
    ] = None,
    why: _Why = None,
    json: Json = False,
) -> None:
    """Let lanes finish what waits there now, take nothing new, and wait until they are empty.

    Without a lane, the whole installation: first no picture is taken in any more, then what was taken in is embedded,
    and trainings and backfills that were asked for are done. Afterwards the lanes are paused: `twinvec resume --all`
    lets them go on. Ctrl-C ends the waiting, and not the draining.

    \b
    Example:
      twinvec drain && twinvec down
      twinvec drain embed --why "a new GPU"
    """
    wanted = [_lane(name) for name in lanes or LANES]
    tv = client()
    stages: list[list[PausableLane]] = [
        [lane for lane in wanted if lane == "intake"],
        [lane for lane in wanted if lane != "intake"],
    ]
    for stage in stages:
        for lane in stage:
            tv.drain(lane, why=why)
        if stage:
            with bars.bar(not json, "drain " + ", ".join(stage)) as bar:
                _follow(tv, stage, bar)
        for lane in stage:
            tv.pause(lane=lane, why=why)
    held = [lane for lane in tv.overview(jobs=0).lanes if lane.name in wanted]
    show(held, _list_drained, as_json=json)


def actions(limit: Limit = 20, json: Json = False) -> None:
    """List who asked for what, newest first: pauses, cancelled jobs, deleted digits, trainings, towers that went live.

    The name is that of the user and the machine it was asked from, as these say it themselves.

    \b
    Example:
      twinvec actions -n 5
    """
    show(client().actions(limit=limit), _list_actions, as_json=json)


def _target(tv: Twinvec, what: str) -> dict[str, Any]:
    """A lane or a job, as arguments. Raises CommandError."""
    if what in LANES:
        return {"lane": what}
    try:
        return {"job": find_job(tv, what).id}
    except CommandError as error:
        raise CommandError(
            f"{what:.80} is neither a lane that may be paused ({', '.join(LANES)}) nor a job: {error}"
        ) from None


def _lane(name: str) -> PausableLane:
    for lane in LANES:
        if lane == name:
            return lane
    raise CommandError(f"no lane {name:.80} that may be paused: there are {', '.join(LANES)}", USAGE)


def _follow(tv: Twinvec, lanes: list[PausableLane], bar: bars.Bar) -> None:
    """Show how much is left until nothing is, twice in a row: a chunk may be under way between two lanes."""
    most, empty = 0, 0
    while empty < 2:
        left = _left(tv, lanes)
        most = max(most, left)
        bar.settle(most - left, most)
        empty = empty + 1 if left == 0 else 0
        if empty < 2:
            time.sleep(LOOK_EVERY)


def _left(tv: Twinvec, lanes: list[PausableLane]) -> int:
    """Batches and messages that draining lanes still wait for, and chunks that are being taken in."""
    seen = tv.overview(jobs=0)
    left = 0
    for lane in seen.lanes:
        if lane.name in lanes:
            if lane.paused is None:
                raise CommandError(f"somebody has resumed the lane {lane.name}: it does not drain any more")
            left += lane.paused.left or 0
    if "intake" in lanes:
        taking = ("twinvec.intake", "twinvec.inbox", "twinvec.express")
        left += sum(any(task in (worker.doing or "") for task in taking) for worker in seen.workers)
    return left


def _said(what: str, pause: Pause) -> str:
    where = f"job {foreign(what)} is paused" if pause.lane is None else f"the lane {pause.lane} is paused"
    return f"{where}: `twinvec resume {foreign(what)}` lets it go on"


def _list_resumed(resumed: dict[str, bool]) -> None:
    if not resumed:
        err.print("no lane is paused")
    for what, was_paused in resumed.items():
        if was_paused:
            out.print(f"{foreign(what)} goes on", highlight=False)
        else:
            err.print(f"{foreign(what)} was not paused", highlight=False)


def _list_drained(lanes: list[Lane]) -> None:
    for lane in lanes:
        held = "" if not lane.queued else f", and holds {lane.queued:,} batches that came later"
        out.print(f"{lane.name} is empty and paused{held}", highlight=False)
    out.print("`twinvec resume --all` lets them go on")


def _list_actions(found: list[Action]) -> None:
    if not found:
        err.print("nobody has asked for anything yet")
        return
    rows = table("at (UTC)", "by", "action", "on", "details", fold=("by", "on", "details"))
    for each in found:
        details = ", ".join(f"{name}: {value}" for name, value in (each.details or {}).items())
        times = f" ({each.times:,} times)" if each.times > 1 else ""
        at = f"{datetime.fromisoformat(each.at).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        rows.add_row(at, foreign(each.by), each.action + times, foreign(each.target), foreign(details))
    out.print(rows)
