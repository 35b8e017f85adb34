"""A folder's pictures by a plain script: decode, cut out what is dark, predict, COPY, commit. No queue, no ledger."""

import hashlib
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.predicting import Predictor
from benchmarks.processes import tell, told
from benchmarks.rows import copy_digits
from db.bulk import copy_embeddings
from training.arrays import Uint8

BATCH = 1_000  # pictures a commit

task = told()
place = task["place"]
predict = Predictor(place.tower_file, BATCH)
job = uuid.uuid4()


def read(file: Path) -> Uint8:
    """A picture of a dark digit on light paper -> (28, 28)."""
    grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    _, ink = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    left, top, width, height = cv2.boundingRect(ink)
    scale = 20 / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(ink[top : top + height, left : left + width], size, interpolation=cv2.INTER_AREA)
    glyph = np.zeros((28, 28), np.uint8)
    down, across = (28 - size[1]) // 2, (28 - size[0]) // 2
    glyph[down : down + size[1], across : across + size[0]] = small
    return glyph


def store(session: Session, collection: str, files: list[Path]) -> None:
    images = np.stack([read(file) for file in files])
    vectors = predict(images)
    query = text("SELECT nextval('digits_id_seq') FROM generate_series(1, :count)")
    ids = list(session.execute(query, {"count": len(files)}).scalars())
    rows = (
        (id, file.name, collection, each, hashlib.sha256(each).digest(), None, None, job)
        for id, file, each in zip(ids, files, [image.tobytes() for image in images], strict=True)
    )
    copy_digits(session, rows)
    copy_embeddings(session, place.tower, np.array(ids), vectors)


files = sorted(Path(task["pictures"]).iterdir())
with place.engine() as engine:
    with Session(engine) as session, session.begin():
        store(session, "warm", files[: task["warm"]])
    own, start = time.process_time(), time.perf_counter()
    for at in range(0, len(files), BATCH):
        with Session(engine) as session, session.begin():
            store(session, "default", files[at : at + BATCH])
    seconds, own = time.perf_counter() - start, time.process_time() - own
tell(rate=len(files) / seconds, refused=0, cpu=[1000 * own / len(files), 0.0, 0.0])
