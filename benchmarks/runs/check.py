"""Count what a run stored, and compare a sample of its vectors with those that the tower makes of the pixels."""

import sys
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from benchmarks.digits import digits
from benchmarks.processes import tell, told
from db.tables import Digit, Embedding
from training.model.siamese import scaled
from training.model.storage import load

SAMPLE = 200
FAR = 1e-4  # a digit's vector differs by about 1e-6, alone and in a batch

task = told()
place, count, warm = task["place"], task["count"], task["warm"]
wanted = np.unique(np.linspace(0, count - 1, SAMPLE).astype(int))
with place.engine() as engine, engine.connect() as connection:
    stored = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (Digit, Embedding)]
    keys = [f"digit/{index:07}" for index in wanted]
    query = select(Digit.key, Embedding.vector).join(Embedding, Embedding.digit == Digit.id)
    rows = connection.execute(query.where(Embedding.tower == place.tower, Digit.key.in_(keys)))
    vectors = {key: vector for key, vector in rows}
if stored != [count + warm] * 2:
    sys.exit(f"{count + warm} digits were sent; stored are {stored} digits and vectors")
pixels = np.concatenate([digits(index, index + 1) for index in wanted.tolist()])
expected = load(Path(place.tower_file).read_bytes()).predict(scaled(pixels), verbose=0)
found = np.stack([vectors[key] for key in keys])
farthest = float(np.abs(found - expected).max())
if farthest > FAR:
    sys.exit(f"a stored vector is {farthest:g} off")
tell(farthest=farthest)
