"""What a case found, and the tables made of that."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

COLUMNS = ("#", "case", "faults", "digits", "lost", "twice", "wrong", "extra work", "recovery", "seconds", "")


@dataclass(kw_only=True)
class Result:
    """One row of the table. A case that finds fault says with what in `problems`, ids included."""

    case: int
    name: str
    faults: str  # what was done, counted
    images: int = 0  # sent
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    extra_work: float | None = None  # claims a batch, less the one that each needs
    recovery: list[float] = field(default_factory=list)  # seconds, one a fault that something had to recover from
    resubmissions: int = 0  # of jobs whose client was left without an answer
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
        return (
            str(self.case),
            self.name,
            self.faults,
            f"{self.images:,}",
            f"{self.lost:,}",
            f"{self.duplicated:,}",
            f"{self.wrong:,}",
            extra,
            recovery,
            f"{self.seconds:.0f}",
            "passed" if self.passed else "FAILED",
        )


def table(results: Sequence[Result]) -> Table:
    """For the terminal."""
    drawn = Table(title="What was lost", caption="recovery: median / worst")
    for column in COLUMNS:
        drawn.add_column(
            column, justify="right" if column in ("digits", "lost", "twice", "wrong", "seconds") else "left"
        )
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
