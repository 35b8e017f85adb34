"""What a check of `twinvec doctor` says: what it found and, where that is not well, what to do."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    part: str
    level: str  # OK, WARNING or PROBLEM
    found: str
    advice: str = ""
