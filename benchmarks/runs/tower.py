"""Make a tower of the benchmarks: its `.keras` file, and beside it the frame of its space. Always of the same seed.

Told a recipe, it trains by it. Else the weights are the first ones: it computes what a trained one does.
"""

from pathlib import Path

from benchmarks.processes import tell, told
from db.vectors.frame import Frame
from training.data import mnist
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK, RECIPES

task = told()
file, data = Path(task["file"]), mnist.load()
if task["recipe"] is None:
    tower = folded(build_network(NOTEBOOK, seed=0))
    vectors = Embedder(tower)(data.train_images)
else:
    trained = train(RECIPES[task["recipe"]], data, seed=0)
    tower, vectors = trained.tower, trained.vectors
frame = file.with_suffix(".frame")
frame.write_bytes(Frame.fit(vectors).to_bytes())
file.write_bytes(save(tower))
tell(file=str(file), frame=str(frame), fingerprint=fingerprint(tower))
