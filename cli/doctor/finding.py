"""What a check of `twinvec doctor` says: what it found and, where that is not well, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from db.faults import Fault, Severity

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    part: str
    level: str  # OK, WARNING or PROBLEM
    found: str
    advice: str = ""


def findings(part: str, faults: Iterable[Fault]) -> Iterator[Finding]:
    """What would be said, or refused, at the start of a process."""
    for fault in faults:
        level = WARNING if fault.severity is Severity.WARNING else PROBLEM
        yield Finding(part, level, fault.found, fault.advice)
