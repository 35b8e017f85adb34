"""What a report says of towers: read from the database, and measured here. Importing this loads TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cli.display.lineage import lineage, was_live
from cli.errors import CommandError
from cli.inputs.digits import digits_to_show
from cli.inputs.ids import find_tower
from cli.ledger import ledger, named_towers
from db.engine import transact
from db.tables import Tower
from db.vectors import towers
from training.data.dataset import Dataset
from training.model.storage import load
from training.report import facts
from training.report.facts import Report
from training.report.measuring import digits_of, layers_of, measure
from worker.settings import Settings


def gather(settings: Settings, words: Sequence[str], *, stored: bool) -> tuple[list[int], Report]:
    """The ids of the towers that are meant, and their report. stored: show stored digits, whatever else there is.

    Raises CommandError.
    """
    with ledger(settings) as engine:
        known = transact(engine, named_towers)
        ids = [find_tower(known, word).id for word in words]
        if len(set(ids)) < len(ids):
            raise CommandError(f"tower {ids[0]} is named twice: give two towers, or one")
        rows = [transact(engine, towers.with_file, id) for id in ids]
        left_out: list[str] = []
        data = digits_to_show(settings, engine, left_out, stored=stored)
    seed = rows[0].seed  # of what is drawn: of two towers, the same digits are shown
    shown = [_tower(row, data, left_out, seed) for row in rows]
    digits = None if data is None else digits_of(data, drawn=any(tower.drawn for tower in shown), seed=seed)
    made_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return ids, Report(towers=shown, digits=digits, left_out=left_out, made_at=made_at)


def _tower(row: Tower, data: Dataset | None, left_out: list[str], seed: int) -> facts.Tower:
    name = f"tower {row.id}"
    model = None if row.file is None else load(row.file)
    if model is None:
        left_out.append(f"No pictures, distances or neighbours of {name}: it is {row.status}, and its file is pruned.")
    return facts.Tower(
        name=name,
        fingerprint=row.fingerprint,
        about=dict(about(row, data)),
        metrics=row.metrics,
        history=row.history,
        threshold=row.threshold,
        verdict=row.verdict,
        layers=None if model is None else layers_of(model),
        drawn=row.settings.get("pairs") == "drawn",
        measured=None if model is None or data is None else measure(model, data, threshold=row.threshold, seed=seed),
    )


def about(row: Tower, data: Dataset | None) -> Iterator[tuple[str, str]]:
    """What is known of a tower, in words."""
    yield "status", str(row.status)
    yield "recipe", f"{row.recipe}, seed {row.seed}"
    yield "trained", f"{row.created_at:%Y-%m-%d %H:%M}"
    known: Mapping[str, Any] = row.lineage or {"digest": row.data_digest, "libraries": row.versions}
    yield from lineage(known)
    since, until = (None if moment is None else moment.isoformat() for moment in (row.live_from, row.live_until))
    yield from was_live(since, until, row.status)
    if data is not None and row.data_digest != data.digest:
        yield "digits shown", "others than it was trained on, or some of them"
