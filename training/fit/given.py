"""A tower that was trained elsewhere, from its file: measured as if it had been trained here."""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import asdict

import numpy as np

from training.data.dataset import Dataset
from training.data.files import checked
from training.errors import TowerError
from training.fit.gate import Gate
from training.fit.train import Trained, measure
from training.model.embedder import Embedder
from training.model.storage import fingerprint, load
from training.recipes import NOTEBOOK

RECIPE = "file"  # stands where others have the name of theirs


def given(file: bytes, data: Dataset) -> Trained:
    """The tower in the bytes of a `.keras` file, with all that is measured of it on some data.

    What it was trained on is not known: its data digest is empty, and so is its history. Raises TowerError where the
    file is no tower, or computes NaN or infinity; DataError where the data are too few to measure it on.
    """
    checked(data)
    start, cpu_start = time.perf_counter(), time.process_time()
    tower = load(file)
    embed = Embedder(tower)
    vectors, queries = embed(data.train_images), embed(data.test_images)
    if not (np.isfinite(vectors).all() and np.isfinite(queries).all()):
        raise TowerError("this tower computes NaN or infinity of digits: its weights are of no use")
    if not np.ptp(vectors, axis=0).any():
        raise TowerError("this tower computes the same vector of every digit: its weights are of no use")
    evaluation, calibration = measure(vectors, queries, data, threshold=NOTEBOOK.threshold)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Trained(
        tower=tower,
        file=file,
        fingerprint=fingerprint(tower),
        recipe=RECIPE,
        settings={},
        seed=0,
        data_digest="",
        versions=_versions(file),
        history={},
        metrics=asdict(evaluation) | {"calibration": None if calibration is None else asdict(calibration)},
        threshold=evaluation.best_threshold if calibration is None else calibration.threshold,
        vectors=vectors,
        gate=Gate.fit(data.train_images, data.train_labels, vectors, data.test_images, queries),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def _versions(file: bytes) -> dict[str, str]:
    """The version of Keras that wrote the file, where it says so."""
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        try:
            version = json.loads(archive.read("metadata.json"))["keras_version"]
        except (KeyError, TypeError, ValueError):
            return {}
    return {"keras": str(version)[:40]}
