"""The control: the task that a tutorial would write. Late acknowledgement, one message a small batch, no ledger."""

import os
import time
from typing import Any

import numpy as np
import psycopg
from celery import Celery
from celery.signals import task_prerun
from pgvector.psycopg import register_vector

from tests.chaos.injected.matrix import product
from tests.chaos.injected.sitecustomize import note

TASK = "naive.embed"
VISIBILITY = 5  # seconds; Celery's default is an hour, which would only put the same answer off

app = Celery("naive", broker=os.environ.get("TWINVEC_BROKER_URL"))
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBILITY,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(name=TASK)
def embed(keys: list[str], seconds: float) -> None:
    """Read the pixels of these keys, compute for `seconds`, store the vectors."""
    url = os.environ["TWINVEC_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        register_vector(connection)
        rows = connection.execute("SELECT key, pixels FROM control WHERE key = ANY(%s)", (keys,)).fetchall()
        pixels = np.stack([np.frombuffer(pixels, np.uint8) for _, pixels in rows])
        time.sleep(seconds)
        vectors = product(1, pixels)
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE control SET vector = %s, runs = runs + 1 WHERE key = %s",
                [(vector, key) for (key, _), vector in zip(rows, vectors, strict=True)],
            )


@task_prerun.connect
def begun(task_id: str, **_: Any) -> None:
    """Leave a line for the case: which process has the task."""
    note("begun", task_id)
