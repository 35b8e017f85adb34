"""Look up through the queue, on an idle system: pictures, vectors, keys, one by one and many at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import store
from benchmarks.processes import tell, told
from training.model.embedder import Embedder
from training.model.storage import load
from twinvec_client import Twinvec

K = 10
AT_ONCE = 100
CALLERS = 32
SETTLE = 5.0  # seconds before an idle system is measured

task = told()
place, count, asked = task["place"], task["count"], task["queries"]
embed = Embedder(load(Path(place.tower_file).read_bytes()))
with place.engine() as engine:
    store.fill(engine, place.tower, embed, count)
tv = Twinvec(place.broker_url)
fingerprint = next(tower.fingerprint for tower in tv.towers())
images = np.concatenate([store.queries(kind, asked, count) for kind in ("held out", "held out, shifted")])
np.random.default_rng(0).shuffle(images)
vectors = embed(images)
places = np.random.default_rng(0).choice(count, asked, replace=False)


def timed(call: Callable[[int], object]) -> list[float]:
    """Milliseconds of each; a few before are not counted."""
    found = []
    for at in range(-10, asked):
        start = time.perf_counter()
        call(at)
        found.append(1000 * (time.perf_counter() - start))
    return found[10:]


time.sleep(SETTLE)
calls = {
    "nothing looked up": timed(lambda _: tv.jobs(limit=1)),
    "a vector": timed(lambda at: tv.nearest(vector=vectors[at], tower=fingerprint, k=K)),
    "a picture": timed(lambda at: tv.nearest(images[at], k=K, normalise=False)),
    "a key": timed(lambda at: tv.nearest(key=f"stored/{places[at]:07}", k=K)),
    "20 pictures at once, each": [],
}
for first in range(0, asked, 20):
    began = time.perf_counter()
    tv.nearest_many(list(images[first : first + 20]), k=K, normalise=False)
    calls["20 pictures at once, each"].append(1000 * (time.perf_counter() - began) / 20)
clients = [Twinvec(place.broker_url) for _ in range(CALLERS)]
with ThreadPoolExecutor(CALLERS) as callers:
    list(callers.map(lambda client: client.jobs(limit=1), clients))  # connected

    def asked_by(number: int) -> list[float]:
        """Milliseconds of each call of one caller, one after the other."""
        spent = []
        for at in range(number, asked, CALLERS):
            start = time.perf_counter()
            clients[number].nearest(images[at], k=K, normalise=False)
            spent.append(1000 * (time.perf_counter() - start))
        return spent

    began = time.perf_counter()
    calls[f"a picture, {CALLERS} callers at once"] = [
        each for some in callers.map(asked_by, range(CALLERS)) for each in some
    ]
    together = asked / (time.perf_counter() - began)
one = many = 0.0
for block in np.array_split(images[: asked // AT_ONCE * AT_ONCE], asked // AT_ONCE):
    start = time.perf_counter()
    tv.nearest_many(list(block), k=K, normalise=False)
    between = time.perf_counter()
    for image in block:
        tv.nearest(image, k=K, normalise=False)
    many, one = many + between - start, one + time.perf_counter() - between
fresh = store.queries("inverted", 1, count)[0]
tv.embed([("fresh", fresh)], normalise=False).wait()
start = time.perf_counter()
found = tv.nearest(fresh, k=1, normalise=False)
took = time.perf_counter() - start
if [neighbour.key for neighbour in found.neighbours] != ["fresh"]:
    sys.exit(f"a digit embedded a moment ago was not found: {found.neighbours}")
blocks = asked // AT_ONCE
tell(calls=calls, one=1000 * one / blocks, many=1000 * many / blocks, fresh=took, together=together)
