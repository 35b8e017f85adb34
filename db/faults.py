"""What is not as it must be, as records, and what follows of them. It must load no driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

CLOCKS_APART = 60.0  # seconds


class Severity(StrEnum):
    """What a fault means for work."""

    WARNING = "warning"  # goes on, and may go worse than it could
    PROBLEM = "problem"  # does not go on until something changes, which may be soon
    REFUSAL = "refusal"  # nothing is started


@dataclass(frozen=True)
class Fault:
    """Something that is not as it must be, and what to do about it."""

    found: str
    advice: str
    severity: Severity = Severity.REFUSAL

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


def refusals(faults: list[Fault]) -> list[Fault]:
    """Those for which nothing is started."""
    return [fault for fault in faults if fault.severity is Severity.REFUSAL]


def clock_faults(whose: str, ahead: float) -> Iterator[Fault]:
    """whose: `the broker's` or `the database's`. ahead: seconds of its clock before this machine's."""
    if abs(ahead) > CLOCKS_APART:
        found = f"{whose} clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        advice = (
            "have NTP set both: leases go by the database's clock, results, schedules and log lines by this machine's"
        )
        yield Fault(found, advice, Severity.WARNING)
