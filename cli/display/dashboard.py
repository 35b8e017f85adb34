"""What goes on, as a screen full of tables: lanes, workers, jobs with bars, towers. It must not ask for anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.display.console import foreign
from cli.inputs.ids import shorten
from twinvec_client import JobStatus, Lane, Overview, Pause, Tower, Worker

WIDE = 100  # columns, below which some are left out
_HEADING = 2  # lines of a table that are no rows
_SHOWN = ("live", "candidate", "previous")  # statuses of towers
_BAR = 12  # columns
_COLOURS = {
    "finished": "green",
    "finished_with_failures": "yellow",
    "running": "cyan",
    "failed": "red",
    "abandoned": "red",
    "waiting_for_tower": "yellow",
}


@dataclass(frozen=True)
class View:
    """What is shown. chosen: the lane that a key would pause. said: the last answer to one. error: why nothing newer is
    known, and for how many seconds."""

    seen: Overview
    towers: Sequence[Tower] = ()
    chosen: str | None = None
    said: str | None = None
    error: str | None = None
    silent: float = 0.0
    keys: bool = False


def screen(view: View, *, width: int, height: int | None = None) -> RenderableType:
    """height: lines that there are; None for as many as it takes."""
    seen, towers = view.seen, _towers(view.towers)
    pauses = [_pause(lane.name, lane.paused) for lane in seen.lanes if lane.paused]
    about = [view.error, view.said, view.keys or None]
    fixed = 1 + len(seen.lanes) + len(pauses) + 3 * _HEADING + sum(each is not None for each in about)
    if height is not None and height - fixed - _HEADING - len(towers) < len(seen.workers) + len(seen.jobs):
        towers = []
    room = 1000 if height is None else height - fixed - (_HEADING + len(towers) if towers else 0)
    jobs, workers = _share(room, len(seen.jobs), len(seen.workers))
    parts: list[RenderableType] = [_head(seen, width)]
    if view.error is not None:
        said = f"no answer for {view.silent:,.0f} s, what is shown is as old: {view.error}"
        parts.append(Text(said, style="bold red", overflow="ellipsis", no_wrap=True))
    parts.append(_lanes(seen.lanes, view.chosen, width))
    parts += pauses
    parts.append(_workers(seen.workers, workers, width))
    parts.append(_jobs(seen.jobs, jobs, width))
    if towers:
        parts.append(_tower_table(towers, width))
    if view.said is not None:
        parts.append(Text(view.said, style="yellow", overflow="ellipsis", no_wrap=True))
    if view.keys:
        keys = "q leave   n next lane   p pause or resume the marked lane"
        parts.append(Text(keys, style="dim", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def _share(room: int, jobs: int, workers: int) -> tuple[int, int]:
    """How many rows each gets of so many lines; one that is cut says so in a line of its own."""
    if jobs + workers <= room:
        return jobs, workers
    half = max(room // 2, 2)
    most_workers = workers if workers <= half else half - 1
    most_jobs = jobs if most_workers + jobs <= room else room - min(workers, half) - 1
    return max(most_jobs, 0), most_workers


def _head(seen: Overview, width: int) -> Text:
    live = "no tower is live" if seen.live_tower is None else f"live tower {seen.live_tower[:12]}"
    facts = [f"backlog {seen.backlog:,}", f"{seen.rate:,.0f} digits/s", f"{len(seen.workers)} workers", live]
    text = Text("Twinvec", style="bold", no_wrap=True, overflow="ellipsis")
    text.append(f"  {_clock(seen.at)}   " + "   ".join(facts), style="not bold")
    return text


def _table(*headings: str, right: Sequence[str] = (), last: bool = True) -> Table:
    """One that fits the terminal: what does not fit is cut."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, show_edge=False, padding=(0, 1))
    for at, heading in enumerate(headings):
        made.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last and at == len(headings) - 1 else None,
        )
    return made


def _lanes(lanes: Sequence[Lane], chosen: str | None, width: int) -> Table:
    numbers = ("messages", "queued", "running", "digits/s", "oldest")
    rows = _table("", "lane", *numbers, "", right=numbers, last=False)
    for lane in lanes:
        counts = [_count(lane.waiting), _count(lane.queued), _count(lane.running)]
        counts.append("" if lane.rate is None else f"{lane.rate:,.0f}")
        counts.append("" if lane.oldest_wait is None else duration(lane.oldest_wait))
        rows.add_row("›" if lane.name == chosen else "", lane.name, *counts, _state_of(lane))
    return rows


def _state_of(lane: Lane) -> str:
    if lane.paused is not None:
        left = "" if lane.paused.left is None else f", {lane.paused.left:,} left"
        return f"[yellow]drains{left}[/]" if lane.paused.draining else "[yellow]paused[/]"
    return "[green]works[/]" if lane.listening else "[red]no worker[/]"


def _pause(lane: str, pause: Pause | None) -> Text:
    return Text("" if pause is None else f"  {pause}", style="yellow", overflow="ellipsis", no_wrap=True)


def _workers(workers: Sequence[Worker], most: int, width: int) -> RenderableType:
    if not workers:
        return Text("\nno worker says that it runs", style="red")
    wide = width >= WIDE
    rows = _table("worker", *(["up"] if wide else []), "memory", "works on", right=("up", "memory"))
    for worker in workers[:most]:
        named = worker.name if wide else worker.name.partition("@")[0]
        late = f"[red]silent for {worker.seen:,.0f} s[/]" if worker.seen > 6 else ""
        said = _doing(worker.doing, wide=wide)
        doing = late or (foreign(said) if said else "[dim]waits[/]")
        up = [duration(_age(worker.since))] if wide else []
        rows.add_row(foreign(named), *up, f"{worker.memory / 2**20:,.0f} MB", doing)
    return _cut(rows, len(workers) - most, "workers")


def _doing(said: str | None, *, wide: bool) -> str:
    if said is None:
        return ""
    words = said.replace("twinvec.", "")
    return words if wide else words.partition(" of job")[0]


def _jobs(jobs: Sequence[JobStatus], most: int, width: int) -> RenderableType:
    if not jobs:
        return Text("\nno job yet", style="dim")
    wide = width >= WIDE
    middle = ["collection"] if wide else []
    rows = _table("job", "kind", *middle, "state", "", "done", "", right=("done",))
    ids = shorten([job.id for job in jobs])
    for id, job in list(zip(ids, jobs, strict=True))[:most]:
        bar, done, note = _progress(job)
        held = "[yellow] paused[/]" if job.paused else ""
        colour = _COLOURS.get(job.state, "default")
        state = f"[{colour}]{job.state.replace('_', ' ')}[/]{held}"
        rows.add_row(id, job.kind, *([foreign(job.collection or "")] if wide else []), state, bar, done, note)
    return _cut(rows, len(jobs) - most, "jobs")


def _progress(job: JobStatus) -> tuple[RenderableType, str, str]:
    """A bar, how much is done, and what else is to be said of a job."""
    if job.kind == "train":
        at = job.progress
        if at is None or job.final:
            return "", "", "" if job.stage is None else job.stage.name
        done, total = (at.epoch - 1) * at.steps + at.step, at.epochs * at.steps
        return _bar(done, total), f"epoch {at.epoch}/{at.epochs}", f"about {duration(at.remaining)} left"
    total_known = job.total or job.accepted
    note = f"[red]{job.failed:,} failed[/]" if job.failed else ""
    if job.final or job.kind == "judge":
        return "", f"{job.settled:,}", note
    said = f"{job.settled:,}/{job.total:,}" if job.total is not None else f"{job.settled:,}/?"
    return _bar(job.settled, total_known), said, note or _left(job)


def _left(job: JobStatus) -> str:
    if not job.settled or job.total is None or job.paused:
        return ""
    return f"about {duration(job.seconds / job.settled * (job.total - job.settled))} left"


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=min(done, total), width=_BAR)


def _towers(towers: Sequence[Tower]) -> list[Tower]:
    return [tower for tower in towers if tower.status in _SHOWN]


def _tower_table(towers: Sequence[Tower], width: int) -> Table:
    numbers = ("vectors", "due")
    rows = _table("tower", "status", *numbers, "fingerprint", "recipe", right=("tower", *numbers), last=False)
    for tower in towers:
        colour = {"live": "green", "candidate": "cyan"}.get(tower.status, "default")
        due = f"[yellow]{tower.due:,}[/]" if tower.due else "0"
        status = f"[{colour}]{tower.status}[/]"
        rows.add_row(str(tower.id), status, f"{tower.embedded:,}", due, tower.fingerprint[:12], foreign(tower.recipe))
    return rows


def _cut(rows: Table, left_out: int, what: str) -> RenderableType:
    if left_out <= 0:
        return rows
    return Group(rows, Text(f"and {left_out:,} more {what}", style="dim"))


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _clock(at: str) -> str:
    """In this machine's time."""
    return f"{datetime.fromisoformat(at).astimezone():%H:%M:%S}"


def _age(since: str) -> float:
    return max((datetime.now().astimezone() - datetime.fromisoformat(since)).total_seconds(), 0.0)


def duration(seconds: float) -> str:
    """Short, as `7 s`, `12 min`, `3 h`, `5 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"
