"""Ray Data: it reads Parquet files, and actors that hold the tower embed what stands in them, and COPY it.

It is told how many actors, and how many digits (`batch`) stand in a file, which an actor reads and embeds at a time.
The files are made before Ray starts. None is read, and the clock does not start, before the last actor has loaded the
tower and stored digits of its own: neither Ray's start nor TensorFlow's counts.
"""

import hashlib
import logging
import os
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.digits import blocks
from benchmarks.place import Place
from benchmarks.processes import ROOT, tell, told
from benchmarks.rows import copy_digits
from db.bulk import copy_embeddings
from db.engine import connect
from training.arrays import Uint8

CPUS = os.cpu_count() or 1
LONGEST = 300  # seconds for all actors to be ready


class Embed:
    """An actor: the digits of a file go in, how many were stored comes out."""

    def __init__(self, place: Place, batch: int, warm: int) -> None:
        from benchmarks.predicting import Predictor  # noqa: PLC0415  # in the actor's process, not in the driver's

        self.tower, self.engine = place.tower, connect(place.database_url)
        self.predict = Predictor(place.tower_file, batch)
        for keys, images in blocks(warm, batch, name=f"warm-{os.getpid()}"):
            self.store("warm", packed(keys, images))
        Path(place.folder, f"ready-{uuid.uuid4()}").write_text(str(self.predict.batch_size))

    def __call__(self, rows: pa.Table) -> dict[str, list[int]]:
        self.store("default", rows)
        return {"stored": [len(rows)]}

    def store(self, collection: str, rows: pa.Table) -> None:
        keys, pixels = rows["key"].to_pylist(), rows["pixels"].to_pylist()
        vectors = self.predict(np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, 784))
        job = uuid.uuid4()
        with Session(self.engine) as session, session.begin():
            query = text("SELECT nextval('digits_id_seq') FROM generate_series(1, :count)")
            ids = list(session.execute(query, {"count": len(keys)}).scalars())
            stored = (
                (id, key, collection, each, hashlib.sha256(each).digest(), None, None, job)
                for id, key, each in zip(ids, keys, pixels, strict=True)
            )
            copy_digits(session, stored)
            copy_embeddings(session, self.tower, np.array(ids), vectors)


def packed(keys: list[str], images: Uint8) -> pa.Table:
    """Digits as they stand in a file: `key`, and `pixels` of 784 bytes."""
    return pa.table({"key": keys, "pixels": pa.array([image.tobytes() for image in images], pa.binary(784))})


def write(folder: Path, count: int, batch: int) -> int:
    """The digits as Parquet files of `batch` each, without compression, the fastest to read. How many files."""
    folder.mkdir()
    for number, (keys, images) in enumerate(blocks(count, batch)):
        file = folder / f"{number:05}.parquet"
        pq.write_table(packed(keys, images), file, compression="none", use_dictionary=False)
    return number + 1


task = told()
place, count, actors = task["place"], task["count"], task["actors"]
batch = min(task["batch"], -(-count // actors))  # no actor is left without
parts = Path(place.folder, "parts")
files = write(parts, count, batch)
ray.init(
    num_cpus=CPUS,
    include_dashboard=False,
    log_to_driver=False,
    logging_level=logging.ERROR,
    runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
)
logging.getLogger("ray.data").setLevel(logging.ERROR)
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.wait_for_min_actors_s = LONGEST  # and only then are files read
context.use_datasource_v2 = False  # that one reads small files together, too few times for all actors to have work
embedded = ray.data.read_parquet(str(parts), override_num_blocks=files).map_batches(
    Embed,
    fn_constructor_args=(place, batch, task["warm"] // actors),
    batch_size=None,  # a file a call; with a number, Ray would read in other processes's
    batch_format="pyarrow",
    compute=ray.data.ActorPoolStrategy(size=actors),
    num_cpus=1,  # as a read needs: then an actor reads its files itself
)
stored = sum(row["stored"] for row in embedded.iter_rows())
end = time.time()
ready = list(Path(place.folder).glob("ready-*"))
start = max(file.stat().st_mtime for file in ready)
if stored != count:
    raise SystemExit(f"{count} written, {stored} stored")
sizes = " and ".join(sorted({f"{int(file.read_text()):,}" for file in ready}))
tell(
    seconds=end - start,
    note=f"actors: {actors}, digits at a time: {task['batch']:,}, `predict` at batch size {sizes}",
)
