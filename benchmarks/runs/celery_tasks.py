"""What a first and a second version of this product may look like in Celery, on its default settings and JSON.

The broker, the database, the tower's id and its file come by the environment of the worker.
"""

import hashlib
import os
import uuid
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from celery import Celery
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.orm import Session

from db.tables import Digit, Embedding

app = Celery("peer", broker=os.environ["PEER_BROKER"], backend=os.environ["PEER_BROKER"])
TOWER = int(os.environ["PEER_TOWER"])
JOB = uuid.UUID(int=0)


@cache
def tower() -> Any:
    from training.model.storage import load  # noqa: PLC0415  # after the fork of the pool, which TensorFlow does not survive

    return load(Path(os.environ["PEER_TOWER_FILE"]).read_bytes())


@cache
def engine() -> Engine:
    return create_engine(os.environ["PEER_DATABASE"])


@app.task
def nothing() -> None:
    """What a task costs by itself."""


@app.task
def embed_one(key: str, picture: str) -> None:
    pixels = b64decode(picture)
    image = np.frombuffer(pixels, np.uint8)[None] / 255
    vector = tower().predict(image, verbose=0)[0]
    with Session(engine()) as session, session.begin():
        digit = Digit(key=key, collection="default", pixels=pixels, sha256=hashlib.sha256(pixels).digest(), job=JOB)
        session.add(digit)
        session.flush()
        session.add(Embedding(tower=TOWER, digit=digit.id, vector=vector))


@app.task
def embed_many(keys: list[str], pictures: list[str]) -> None:
    pixels = [b64decode(picture) for picture in pictures]
    images = np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, 784) / 255
    vectors = tower().predict(images, batch_size=256, verbose=0)
    digits = [
        {"key": key, "collection": "default", "pixels": each, "sha256": hashlib.sha256(each).digest(), "job": JOB}
        for key, each in zip(keys, pixels, strict=True)
    ]
    with Session(engine()) as session, session.begin():
        ids = session.scalars(insert(Digit).returning(Digit.id, sort_by_parameter_order=True), digits).all()
        session.execute(
            insert(Embedding),
            [{"tower": TOWER, "digit": id, "vector": vector} for id, vector in zip(ids, vectors, strict=True)],
        )
