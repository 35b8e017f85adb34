"""What came of judging a candidate against the live tower: the record, as `towers.verdict` holds it.

It must not know how a figure is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One criterion. live, candidate: the figures, None where there is none. tolerance: by how much the candidate's may
    be worse; None where the figure decides nothing. said: in a sentence."""

    name: str
    live: float | None = None
    candidate: float | None = None
    tolerance: float | None = None
    passed: bool
    said: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On a candidate, by its id. live: the id of the tower it was compared with; None where it was not compared.

    figures: all that was measured. judged_by: the process. forced_by: who asked for it to go live in spite of it.
    seconds: that judging took.
    """

    candidate: int
    live: int | None
    reasons: Sequence[Reason]
    figures: dict[str, Any]
    judged_by: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return all(reason.passed for reason in self.reasons)

    @property
    def refused_because(self) -> str | None:
        """The sentences of what it did not pass; None where it passed."""
        return "; ".join(reason.said for reason in self.reasons if not reason.passed) or None

    def record(self, *, judged_at: str, forced_by: str | None) -> dict[str, Any]:
        """As it is stored. judged_at: ISO 8601."""
        return {"passed": self.passed, **asdict(self), "judged_at": judged_at, "forced_by": forced_by}


def said_against(record: dict[str, Any] | None) -> str | None:
    """The sentences of what a stored verdict did not pass; None where it passed, or there is none."""
    reasons = [] if record is None else record["reasons"]
    return "; ".join(reason["said"] for reason in reasons if not reason["passed"]) or None


def refusal(tower: int, name: str, why: str) -> Verdict:
    """The verdict on a candidate that is refused before it is compared."""
    return Verdict(candidate=tower, live=None, reasons=[Reason(name=name, passed=False, said=why)], figures={})
