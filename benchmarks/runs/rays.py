"""Ray Data: actors that hold the tower make the digits, embed them, and COPY them.

It is told how many actors, and how many digits (`batch`) go through one at a time. The actors make the digits, too:
between processes Ray moves their numbers only. No actor begins, and the clock does not start, before the last one has
loaded its tower: neither Ray's start nor TensorFlow's counts.
"""

import hashlib
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import ray
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.common import ROOT, Place, digits, originals, tell, told
from db.copying import copy_digits, copy_embeddings
from db.engine import connect

CPUS = os.cpu_count() or 1
PATIENCE = 300  # seconds for the other actors to load their towers


class Embed:
    """An actor: the numbers of a batch of digits go in, how many were stored comes out."""

    def __init__(self, place: Place, actors: int) -> None:
        from training.towers import Embedder, load  # noqa: PLC0415  # in the actor's process, not in the driver's

        self.place, self.actors, self.engine = place, actors, connect(place.database_url)
        self.tower = Embedder(load(Path(place.tower_file).read_bytes()))
        self.tower.warm_up()
        originals()
        Path(place.folder, f"ready-{uuid.uuid4()}").touch()

    def __call__(self, rows: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[int]]:
        deadline = time.monotonic() + PATIENCE
        while len(ready(self.place)) < self.actors and time.monotonic() < deadline:
            time.sleep(0.001)
        numbers = rows["id"].tolist()  # consecutive
        images = digits(numbers[0], numbers[-1] + 1)
        vectors = self.tower(images)
        job = uuid.uuid4()
        with Session(self.engine) as session, session.begin():
            query = text("SELECT nextval('digits_id_seq') FROM generate_series(1, :count)")
            ids = list(session.execute(query, {"count": len(numbers)}).scalars())
            pixels = [image.tobytes() for image in images]
            stored = (
                (id, f"digit/{number:07}", "default", each, hashlib.sha256(each).digest(), None, None, job)
                for id, number, each in zip(ids, numbers, pixels, strict=True)
            )
            copy_digits(session, stored)
            copy_embeddings(session, self.place.tower, np.array(ids), vectors)
        return {"stored": [len(numbers)]}


def ready(place: Place) -> list[Path]:
    """A file for each actor that has loaded its tower."""
    return list(Path(place.folder).glob("ready-*"))


task = told()
place, count, batch, actors = task["place"], task["count"], task["batch"], task["actors"]
ray.init(
    num_cpus=CPUS,
    include_dashboard=False,
    log_to_driver=False,
    logging_level=logging.ERROR,
    runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
)
ray.data.DataContext.get_current().enable_progress_bars = False
logging.getLogger("ray.data").setLevel(logging.ERROR)
embedded = ray.data.range(count, override_num_blocks=-(-count // batch)).map_batches(
    Embed,
    fn_constructor_args=(place, actors),
    batch_size=None,  # a block a call
    concurrency=actors,
    num_cpus=CPUS / actors / 2,  # the other half is for the tasks that feed them
)
stored = sum(row["stored"] for row in embedded.iter_rows())
end = time.time()
start = max(file.stat().st_mtime for file in ready(place))
if stored != count:
    raise SystemExit(f"{count} read, {stored} stored")
tell(seconds=end - start, note=f"actors: {actors}, digits at a time: {batch:,}")
