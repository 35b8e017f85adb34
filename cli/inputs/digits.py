"""The digits that towers are shown and measured on, of those that are to be had here. It must not know towers."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.engine import transact
from db.holdout import held_out
from db.tables import Digit
from training.data.dataset import Dataset
from training.data.files import load_configured
from training.errors import DataError
from worker.settings import Settings

MOST_STORED = 20_000  # digits that are read where no others are to be had


def digits_to_show(settings: Settings, engine: Engine, missing: list[str], *, stored: bool = False) -> Dataset | None:
    """What workers train on, or what is stored with labels; None where neither is here. missing: is told in sentences.

    stored: take stored ones, whatever else there is.
    """
    if not stored:
        try:
            return load_configured(settings.data, settings.mnist, transposed=settings.data_transposed)
        except DataError as error:
            missing.append(f"The digits that workers train on are not on this machine: {error}")
    data = transact(engine, stored_digits)
    if data is None:
        missing.append(
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
