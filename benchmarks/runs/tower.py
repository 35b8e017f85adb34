"""Make the tower of the benchmarks and store it as a `.keras` file. Its weights are the first ones, of a fixed seed."""

from pathlib import Path

from benchmarks.processes import tell, told
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK

file = Path(told()["file"])
tower = folded(build_network(NOTEBOOK, seed=0))
file.write_bytes(save(tower))
tell(file=str(file), fingerprint=fingerprint(tower))
