"""Progress bars for people: drawn on stderr where that is a terminal, one line now and then where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from twinvec_client.results import JobStatus


class Bar:
    """One line of progress; the base class shows nothing."""

    def advance(self, count: int) -> None:
        """`count` more are done."""

    def expect(self, total: int) -> None:
        """There are `total` of them in all."""

    def settle(self, done: int, total: int) -> None:
        """`done` of `total` are."""

    def note(self, said: str | None) -> None:
        """Show why it does not go on; None once it does."""

    def embedding(self, status: JobStatus) -> None:
        """Show where a bulk job stands."""

    def training(self, status: JobStatus) -> None:
        """Show where a training stands."""


class _RichBar(Bar):
    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self.progress, self.description = progress, description
        self.task = progress.add_task(description, total=total)

    def advance(self, count: int) -> None:
        self.progress.advance(self.task, count)

    def expect(self, total: int) -> None:
        self.progress.update(self.task, total=total)

    def settle(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def note(self, said: str | None) -> None:
        note = "" if said is None else f" [yellow]{escape(said)}"
        self.progress.update(self.task, description=self.description + note)

    def embedding(self, status: JobStatus) -> None:
        notes = [f"[red]{status.failed:,} failed"] if status.failed else []
        if status.state == "waiting_for_tower":
            notes.append("[yellow]no tower is live yet: the vectors are due")
        if status.paused is not None and not status.final:
            notes.append(f"[yellow]{escape(str(status.paused))}")
        self.progress.update(
            self.task, completed=status.settled, total=status.total, description=" ".join(["embed", *notes])
        )

    def training(self, status: JobStatus) -> None:
        stage, at = status.stage, status.progress
        if stage is not None and stage.total is not None:
            self.progress.update(self.task, completed=stage.done, total=stage.total, description="backfill")
            return
        if at is None or status.outcome is not None:
            return
        done = (at.epoch - 1) * at.steps + at.step
        metrics = " ".join(f"{name} {value:.4f}" for name, value in at.metrics.items())
        self.progress.update(
            self.task,
            completed=done,
            total=at.epochs * at.steps,
            description=f"train epoch {at.epoch}/{at.epochs} {metrics}",
        )


class _Rate(ProgressColumn):
    """Things a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def bar(show: bool, description: str, *, total: int | None = None) -> Iterator[Bar]:
    """A bar on stderr while the block runs; with `show` False, one that shows nothing."""
    if not show:
        yield Bar()
        return
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _RichBar(progress, description, total)
