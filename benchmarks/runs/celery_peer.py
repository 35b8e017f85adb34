"""The Celery peers: a task for every `batch` pictures, or for each one where `batch` is 1, on `processes` processes.

The clock runs from the first task that is sent to the last result; by then every process has loaded the tower.
"""

import time
from collections.abc import Iterator

from celery.result import AsyncResult

from benchmarks.digits import blocks
from benchmarks.peer import Peer, await_all, worker
from benchmarks.processes import tell, told

task = told()
place, batch = task["place"], task["batch"]


def send(peer: Peer, count: int, name: str) -> Iterator[AsyncResult[None]]:
    for keys, images in blocks(count, batch, name=name):
        yield peer.send_one(keys[0], images[0]) if batch == 1 else peer.send_many(keys, images)


with worker(place, task["processes"]) as peer:
    await_all(list(send(peer, task["warm"], "warm")))
    start = time.perf_counter()
    await_all(list(send(peer, task["count"], "digit")))
    seconds = time.perf_counter() - start
tell(seconds=seconds, note=f"pictures a task: {batch}, processes: {task['processes']}")
