"""What a report says of towers: read from the database, and measured here. Importing this loads TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from cli.display.lineage import lineage, was_live
from cli.errors import CommandError
from cli.inputs.ids import find_tower
from cli.ledger import ledger, named_towers
from db.engine import transact
from db.holdout import held_out
from db.tables import Digit, Tower
from db.vectors import towers
from training.data.dataset import Dataset
from training.data.files import load_configured
from training.errors import DataError
from training.model.storage import load
from training.report import facts
from training.report.facts import Report
from training.report.measuring import digits_of, layers_of, measure
from worker.settings import Settings

MOST_STORED = 20_000  # digits that are read where no others are to be had


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
        data = _digits(settings, engine, left_out, stored=stored)
    shown = [_tower(row, data, left_out) for row in rows]
    digits = None if data is None else digits_of(data, drawn=any(tower.drawn for tower in shown), seed=rows[0].seed)
    made_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return ids, Report(towers=shown, digits=digits, left_out=left_out, made_at=made_at)


def _digits(settings: Settings, engine: Engine, left_out: list[str], *, stored: bool) -> Dataset | None:
    """What towers are shown on: what workers train on, or what is stored with labels; None where neither is there."""
    if not stored:
        try:
            return load_configured(settings.data, settings.mnist, transposed=settings.data_transposed)
        except DataError as error:
            left_out.append(f"The digits that workers train on are not on this machine: {error}")
    data = transact(engine, stored_digits)
    if data is None:
        left_out.append(
            "No pictures, distances or neighbours: fewer than two labels are stored on either side of what is held out."
        )
    return data


def stored_digits(session: Session) -> Dataset | None:
    """The first with labels; those that are held out of trainings are the test images. None where they are too few."""
    labelled = select(Digit.pixels, Digit.label, held_out(Digit.key)).where(Digit.label.between(0, 255))
    rows = session.execute(labelled.order_by(Digit.id).limit(MOST_STORED)).all()
    images = np.frombuffer(b"".join(row[0] for row in rows), np.uint8).reshape(-1, 28, 28)
    labels, held = np.array([row[1] for row in rows], np.uint8), np.array([row[2] for row in rows], np.bool_)
    if min(len(np.unique(labels[held])), len(np.unique(labels[~held]))) < 2:
        return None
    return Dataset(
        train_images=images[~held],
        train_labels=labels[~held],
        test_images=images[held],
        test_labels=labels[held],
        source=f"{len(rows):,} stored digits with labels; the test images are those that no training sees",
    )


def _tower(row: Tower, data: Dataset | None, left_out: list[str]) -> facts.Tower:
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
        verdict=getattr(row, "verdict", None),
        layers=None if model is None else layers_of(model),
        drawn=row.settings.get("pairs") == "drawn",
        measured=None
        if model is None or data is None
        else measure(model, data, threshold=row.threshold, seed=row.seed),
    )


def about(row: Tower, data: Dataset | None) -> Iterator[tuple[str, str]]:
    """What is known of a tower, in words."""
    yield "status", str(row.status)
    yield "recipe", f"{row.recipe}, seed {row.seed}"
    yield "trained", f"{row.created_at:%Y-%m-%d %H:%M}"
    known: Mapping[str, Any] = getattr(row, "lineage", None) or {"digest": row.data_digest, "libraries": row.versions}
    yield from lineage(known)
    since, until = (getattr(row, name, None) for name in ("live_from", "live_until"))
    yield from was_live(since and since.isoformat(), until and until.isoformat(), row.status)
    if data is not None and row.data_digest != data.digest:
        yield "digits shown", "others than it was trained on, or some of them"
