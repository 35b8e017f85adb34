"""A recipe, from its imports to the tower that is stored; then measured.

Arguments: path of an .npz of MNIST, seed, name of the recipe. Prints one JSON object as its last line.
"""

import time

started = time.perf_counter()

import json  # noqa: E402  # the clock runs while modules are imported
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from training.data.mnist import read_npz  # noqa: E402
from training.fit.train import train  # noqa: E402
from training.recipes import RECIPES  # noqa: E402

path, seed, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = read_npz(Path(path))
wall, cpu = time.perf_counter() - started, time.process_time()  # of importing and reading
trained = train(RECIPES[name], data, seed=seed)
print(
    json.dumps(
        {
            "wall": wall + trained.seconds,
            "cpu": cpu + trained.cpu_seconds,
            "backend": trained.versions["backend"],
            "metrics": trained.metrics,
        }
    )
)
