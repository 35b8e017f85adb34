"""The Celery worker that stands beside Twinvec: `runs/celery_tasks.py` on the same broker and the same tables."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from celery.result import AsyncResult

from benchmarks.place import Place
from benchmarks.processes import ROOT
from training.arrays import Uint8

LONGEST = 300  # seconds for a task; the first one of a process loads TensorFlow


class Peer:
    """An application that sends to that worker."""

    def __init__(self, place: Place) -> None:
        self._app = Celery("application", broker=place.broker_url, backend=place.broker_url)

    def send_one(self, key: str, image: Uint8) -> AsyncResult[None]:
        return self._send("embed_one", key, _text(image))

    def send_many(self, keys: list[str], images: Iterable[Uint8]) -> AsyncResult[None]:
        return self._send("embed_many", keys, [_text(image) for image in images])

    def send_nothing(self) -> AsyncResult[None]:
        return self._send("nothing")

    def _send(self, task: str, *arguments: object) -> AsyncResult[None]:
        return self._app.send_task(f"benchmarks.runs.celery_tasks.{task}", arguments)


@contextmanager
def worker(place: Place, processes: int) -> Iterator[Peer]:
    """Run the worker while the block runs. Its processes load the tower with their first task."""
    environment = {
        "PEER_BROKER": place.broker_url,
        "PEER_DATABASE": place.database_url,
        "PEER_TOWER": str(place.tower),
        "PEER_TOWER_FILE": place.tower_file,
    }
    command = [sys.executable, "-m", "celery", "--app", "benchmarks.runs.celery_tasks", "worker"]
    command += ["--concurrency", str(processes), "--loglevel", "WARNING"]
    with Path(place.folder, "celery.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield Peer(place)
        finally:
            process.terminate()
            process.wait(60)


def await_all(results: Iterable[AsyncResult[None]]) -> None:
    """Wait for tasks; raises what one raised."""
    for result in results:
        result.get(timeout=LONGEST)


def _text(image: Uint8) -> str:
    return b64encode(image.tobytes()).decode()
