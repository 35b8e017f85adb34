"""Prediction as Keras documents it, for the programs that Twinvec is compared with."""

import time
from pathlib import Path

from benchmarks.digits import digits
from training.arrays import Float32, Uint8
from training.model.siamese import scaled
from training.model.storage import load

SIZES = (256, 512, 1024, 2048, 4096, 8192)  # that `predict` may cut a call's digits into


class Predictor:
    """A tower's `predict`, at the batch size that is the fastest on this machine for `count` digits a call."""

    def __init__(self, tower_file: str, count: int) -> None:
        self._tower = load(Path(tower_file).read_bytes())
        pixels = scaled(digits(0, count))
        self.batch_size = min(SIZES, key=lambda size: self._seconds(pixels, size))

    def __call__(self, images: Uint8) -> Float32:
        """(n, 28, 28) or (n, 784) uint8 -> (n, 128) float32."""
        return self._predict(scaled(images), self.batch_size)

    def _seconds(self, pixels: Float32, size: int) -> float:
        """Of one call; the first one of a size compiles it."""
        self._predict(pixels, size)
        start = time.perf_counter()
        self._predict(pixels, size)
        return time.perf_counter() - start

    def _predict(self, pixels: Float32, size: int) -> Float32:
        vectors: Float32 = self._tower.predict(pixels, batch_size=size, verbose=0)
        return vectors
