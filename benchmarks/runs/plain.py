"""The plain script: load the tower, predict, COPY digits and vectors, commit, batch after batch. No queue, no ledger.

It predicts at the batch size that is the fastest on this machine, found before the clock runs.
"""

import hashlib
import time
import uuid
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.digits import blocks, encoded
from benchmarks.predicting import Predictor
from benchmarks.processes import tell, told
from benchmarks.rows import copy_digits
from db.bulk import copy_embeddings
from training.arrays import Uint8

BATCH = 32_768  # digits a commit; Keras's `predict` has a cost a call, which small ones would pay more often

task = told()
place, count = task["place"], task["count"]
predict = Predictor(place.tower_file, BATCH)
job = uuid.uuid4()


def read(files: list[tuple[str, bytes]]) -> Iterator[tuple[list[str], Uint8]]:
    """PNG files as `blocks` has them: 28x28 grey as they are, without the checks that a stranger's picture needs."""
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        yield [key for key, _ in part], np.stack([np.asarray(Image.open(BytesIO(png)).convert("L")) for _, png in part])


def store(session: Session, collection: str, keys: list[str], images: Uint8) -> None:
    vectors = predict(images)
    query = text("SELECT nextval('digits_id_seq') FROM generate_series(1, :count)")
    ids = list(session.execute(query, {"count": len(keys)}).scalars())
    pixels = [image.tobytes() for image in images]
    rows = (
        (id, key, collection, each, hashlib.sha256(each).digest(), None, None, job)
        for id, key, each in zip(ids, keys, pixels, strict=True)
    )
    copy_digits(session, rows)
    copy_embeddings(session, place.tower, np.array(ids), vectors)


with place.engine() as engine:
    for keys, images in blocks(task["warm"], BATCH, name="warm"):
        with Session(engine) as session, session.begin():
            store(session, "warm", keys, images)
    files = encoded(count) if task["png"] else []

    start = time.perf_counter()
    for keys, images in read(files) if task["png"] else blocks(count, BATCH):
        with Session(engine) as session, session.begin():
            store(session, "default", keys, images)
    seconds = time.perf_counter() - start
tell(seconds=seconds, note=f"`predict` at batch size {predict.batch_size:,}")
