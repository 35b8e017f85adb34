"""One backend: how fast a tower embeds on it, what it gives, and whether memory grows.

Arguments: a tower's `.keras` file, a `.npy` of glyphs (n, 784) uint8, the `.npy` to write vectors to. KERAS_BACKEND
names the backend. Prints one JSON object as its last line.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil

from training.model.bucketing import BUCKETS
from training.model.devices import describe
from training.model.embedder import Embedder
from training.model.siamese import scaled
from training.model.storage import load

COUNTS = (1, 256, 1024, 2048, 4096)  # images a call
SECONDS = 1.0  # of each measurement
CALLS = 1000  # of the embedder, of many lengths, to see whether memory grows


def main() -> None:
    """Measure, write the vectors, print the rest."""
    file, glyphs, vectors = Path(sys.argv[1]).read_bytes(), np.load(sys.argv[2]), sys.argv[3]
    tower = load(file)
    embedder = Embedder(tower)
    start = time.perf_counter()
    embedder.warm_up()
    warm_up = time.perf_counter() - start
    np.save(vectors, embedder(glyphs))
    ways: dict[str, Callable[[Any], Any]] = {
        "`Embedder`": embedder,
        "`predict_on_batch`": lambda images: tower.predict_on_batch(scaled(images)),
        "`predict`": lambda images: tower.predict(scaled(images), batch_size=len(images), verbose=0),
        "NumPy": multiplied(tower),
    }
    rates = {name: [rate(way, glyphs[:count]) for count in COUNTS] for name, way in ways.items()}
    findings = describe()
    findings |= {"warm_up": warm_up, "rates": rates, "grown": growth(embedder, glyphs)}
    print(json.dumps(findings | {"load": os.getloadavg()[0]}))


def multiplied(tower: keras.Model) -> Callable[[Any], Any]:
    """The tower's own matrices, multiplied by NumPy. Of dense towers alone."""
    weights = tower.get_weights()
    assert all(isinstance(layer, keras.layers.Dense) for layer in tower.layers), "a dense tower"

    def embed(images: Any) -> Any:
        hidden = scaled(images)
        for at in range(0, len(weights), 2):
            hidden = hidden @ weights[at]
            hidden += weights[at + 1]
            if at + 2 < len(weights):
                np.maximum(hidden, 0, out=hidden)
        return hidden

    return embed


def rate(way: Callable[[Any], Any], images: Any) -> float:
    """Images a second, by the median call."""
    way(images)
    seconds: list[float] = []
    while sum(seconds) < SECONDS or len(seconds) < 5:
        start = time.perf_counter()
        way(images)
        seconds.append(time.perf_counter() - start)
    return len(images) / statistics.median(seconds)


def growth(embedder: Embedder, glyphs: Any) -> float:
    """MB by which this process grows over 1,000 calls of random lengths, after 100 of the same kind."""
    process, rng = psutil.Process(), np.random.default_rng(0)
    lengths = rng.integers(1, 2 * BUCKETS[-1], CALLS + 100) // rng.choice([1, 8, 64, 512], CALLS + 100)
    before = 0
    for at, length in enumerate(lengths):
        if at == 100:
            before = process.memory_info().rss
        embedder(glyphs[:length])
    return (process.memory_info().rss - before) / 2**20


main()
