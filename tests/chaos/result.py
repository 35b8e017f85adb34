"""What a case found, and the tables made of that."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

COUNTS = ("digits", "lost", "twice", "wrong", "failed")
COLUMNS = ("#", "case", "faults", *COUNTS, "extra work", "recovery", "seconds", "")


@dataclass(kw_only=True)
class Result:
    """One row of the table. A case that finds fault says with what in `problems`, ids included."""

    case: int
    name: str
    faults: str  # what was done, counted
    images: int | None = None  # sent; of this and the next four None is what was not counted
    lost: int | None = None
    duplicated: int | None = None
    wrong: int | None = None
    failed: int | None = None  # pictures among the failures
    extra_work: float | None = None  # claims a batch, less the one that each needs
    recovery: list[float] = field(default_factory=list)  # seconds, one a fault that something had to recover from
    resubmissions: int = 0  # of jobs whose client was left without an answer
    calls: int = 0  # of the application's task, at the end of a job
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems

    def require(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)

    def cells(self) -> tuple[str, ...]:
        extra = "" if self.extra_work is None else f"{self.extra_work:.1%}"
        recovery = ""
        if self.recovery:
            recovery = f"{statistics.median(self.recovery):.1f} / {max(self.recovery):.1f} s"
        counts = (self.images, self.lost, self.duplicated, self.wrong, self.failed)
        return (
            str(self.case),
            self.name,
            self.faults,
            *("" if count is None else f"{count:,}" for count in counts),
            extra,
            recovery,
            f"{self.seconds:.0f}",
            "passed" if self.passed else "FAILED",
        )


def table(results: Sequence[Result]) -> Table:
    """For the terminal."""
    drawn = Table(title="What was lost", caption="recovery: median / worst")
    for column in COLUMNS:
        drawn.add_column(column, justify="right" if column in (*COUNTS, "seconds") else "left")
    for result in results:
        drawn.add_row(*result.cells(), style=None if result.passed else "red")
    return drawn


def markdown(results: Sequence[Result]) -> str:
    """For docs/reliability.md, with the notes below the table."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(result.cells())} |" for result in results]
    notes = [f"- {result.case}: {result.note}" for result in results if result.note]
    problems = [f"- {result.case} FAILED: {problem}" for result in results for problem in result.problems]
    return "\n".join([*lines, "", *notes, *problems]).rstrip() + "\n"


def replaced(page: str, results: Sequence[Result]) -> str:
    """What `markdown` once made, with the rows and notes of these cases in the place of the former ones."""
    again = {result.case for result in results}
    kept = [line for line in page.splitlines() if _case(line) not in again]
    fresh = [line for line in markdown(results).splitlines() if _case(line) is not None]
    rows = [line for line in kept + fresh if line.startswith("| ") and _case(line) is not None]
    notes = [line for line in kept + fresh if line.startswith("- ")]
    first = page.index(f"| {' | '.join(COLUMNS)} |")
    above = [*page[:first].splitlines(), *markdown([]).splitlines()]
    return "\n".join([*above, *sorted(rows, key=_place), "", *sorted(notes, key=_place), "", ""])


def _place(line: str) -> int:
    return _case(line) or 0


def _case(line: str) -> int | None:
    """The case that a row or a note is about."""
    found = re.match(r"(?:\| |- )(\d+)\b", line)
    return int(found[1]) if found else None
