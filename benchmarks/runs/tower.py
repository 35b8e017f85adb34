"""Make a tower of the benchmarks: its `.keras` file, and beside it the frame of its space. Always of the same seed.

Told a recipe, it trains by it, or takes the tower that an earlier run trained by the same settings; the frame is fitted
anew. Told none, the weights are the first ones: it computes what a trained one does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import keras

from benchmarks.processes import tell, told
from db.vectors.frame import Frame
from training.data import mnist
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, load, save
from training.recipes import NOTEBOOK, RECIPES


def trained(recipe: str, file: Path) -> keras.Model:
    """The tower of a recipe, kept in `file` for later runs."""
    settings, note = asdict(RECIPES[recipe]), file.with_suffix(".json")
    if file.exists() and note.exists() and json.loads(note.read_text()) == settings:
        return load(file.read_bytes())
    print(f"training a tower of the recipe {recipe}", file=sys.stderr, flush=True)
    note.unlink(missing_ok=True)
    tower = train(RECIPES[recipe], data, seed=0).tower
    file.write_bytes(save(tower))
    note.write_text(json.dumps(settings))
    return tower


task = told()
file, data = Path(task["file"]), mnist.load()
if task["recipe"] is None:
    tower = folded(build_network(NOTEBOOK, seed=0))
    file.write_bytes(save(tower))
else:
    tower = trained(task["recipe"], file)
frame = file.with_suffix(".frame")
frame.write_bytes(Frame.fit(Embedder(tower)(data.train_images)).to_bytes())
tell(file=str(file), frame=str(frame), fingerprint=fingerprint(tower))
