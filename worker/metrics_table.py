"""Writes the table of metrics in docs/watching.md from the code: `python -m worker.metrics_table`.

Nothing imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from db.queue.figures import Figures, MaintainedTower, OpenBatches
from db.states import JobKind, TowerStatus
from twinvec_client.contract.broker import LANES
from worker.figures import Installation, Lanes, told_of_broker, told_of_ledger
from worker.metrics import MAIN, POOL
from worker.monitor import Monitor
from worker.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "watching.md"
BEGIN, END = "<!-- metrics -->", "<!-- metrics: end -->"

_NO_WORK = Figures(
    batches=dict.fromkeys(JobKind, OpenBatches()),
    towers=[MaintainedTower(1, "", TowerStatus.LIVE, "", 0)],
    dead=0,
    canary=0.0,
    checked=0.0,
    looked_at=0,
    far=0,
)
_NO_MESSAGE = Lanes(waiting=dict.fromkeys(LANES, 0), listening=set(), schedulers=0, set_aside=0)


def table() -> str:
    """A row a metric: its name, its type and its labels, which processes tell it, and what it says."""
    return "\n".join(
        ["| metric | type | labels | told by | what it says |", "| --- | --- | --- | --- | --- |", *_rows()]
    )


def written(page: str) -> str:
    """The page with the table between its marks. Raises ValueError where there are none."""
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    return f"{before}{BEGIN}\n\n{table()}\n\n{after}"


def _rows() -> Iterator[str]:
    monitor = Monitor("", [], 1)
    try:
        of_process = list(monitor.collect())
    finally:
        monitor.folder.close()
    figures = [*told_of_ledger(_NO_WORK), *told_of_broker(_NO_MESSAGE), *Installation(Settings.tolerant()[0]).collect()]
    yield from _told("pool processes", POOL.collect())
    yield from _told("main process, `beat`", MAIN.collect())
    yield from _told("workers of `control`", sorted(figures, key=lambda each: each.name))
    yield from _told("main process", of_process)


def _told(by: str, families: Iterable[Metric]) -> Iterator[str]:
    for each in families:
        family: Any = each
        labels = getattr(family, "_labelnames", None)
        if labels is None:
            labels = _LABELS.get(family.name, ())
        name = f"{family.name}_total" if family.type == "counter" else family.name
        listed = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {family.type} | {listed} | {by} | {family.documentation} |"


_LABELS: dict[str, tuple[str, ...]] = {
    metric.describe()[0].name: metric._labelnames
    for registry in (POOL, MAIN)
    for metric in list(vars(registry)["_collector_to_names"])
}


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
