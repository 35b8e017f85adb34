"""Where a tower comes from and what became of it, in words. It must not know who shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MINUTES = len("2026-01-31 12:34")


def lineage(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What it was trained on, and who or what started that: the rows of `towers.lineage`, as far as they are there."""
    counts = {
        "of the data set": found.get("mnist_digits"),
        "stored digits with labels": found.get("stored_labels"),
        "judged pairs": found.get("judged_pairs"),
    }
    known = [f"{count:,} {what}" for what, count in counts.items() if count]
    if known:
        yield "trained on", ", ".join(known)
    for name, title in (("source", "data set"), ("digest", "data digest"), ("code", "Twinvec"), ("machine", "machine")):
        if found.get(name):
            yield title, str(found[name])
    if found.get("libraries"):
        yield "libraries", ", ".join(f"{name} {version}" for name, version in sorted(found["libraries"].items()))
    if found.get("started_by"):
        yield "started by", str(found["started_by"])


def was_live(since: str | None, until: str | None, status: str) -> Iterator[tuple[str, str]]:
    """When it was live the last time, ISO 8601; nothing where it never was."""
    if since is not None:
        end = "now" if status == "live" else shown_time(until) if until else "unknown"
        yield "live", f"{shown_time(since)} to {end}"


def shown_time(moment: str) -> str:
    """To the minute, of ISO 8601."""
    return moment[:_MINUTES].replace("T", " ")
