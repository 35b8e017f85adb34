"""The tables of docs/performance.md: their figures, and where they stand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"

Row = Sequence[object]


def table(heads: Sequence[str], rows: Sequence[Row], *, words: int = 1) -> str:
    """A Markdown table, its first `words` columns flush left."""
    marks = ["---" if at < words else "---:" for at in range(len(heads))]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in (heads, marks, *rows))


def spread(values: Sequence[float], places: int = 0) -> str:
    """`median (lowest to highest)`; of one value, itself."""
    middle = f"{statistics.median(values):,.{places}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{places}f} to {max(values):,.{places}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def circumstances(load: float) -> str:
    """Where this ran; `load` is the load average before it began."""
    return (
        f"{machine.described()}. The load average before it began was {load:.1f}: above 0, other work took its share."
    )


def publish(section: str, text: str, *, write: bool, to: Path = PAGE) -> None:
    """Print a result, and put it between its section's marks on the page. Raises ValueError where there are none."""
    print(text)
    if write:
        begin, end = f"<!-- {section} -->", f"<!-- {section}: end -->"
        page = to.read_text()
        before, rest = page[: page.index(begin)], page[page.index(end) :]
        to.write_text(f"{before}{begin}\n\n{text}\n\n{rest}")
