"""A folder's pictures by Twinvec, seen from an application; and the processor's time of client, intake and embedder."""

import time
from pathlib import Path

import psutil

from benchmarks.processes import tell, told
from twinvec_client import Twinvec


def spent(pid: int) -> float:
    """Seconds of the processor that a worker and its pool have used."""
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return sum(each.user + each.system for each in times)


task = told()
place = task["place"]
files = sorted(Path(task["pictures"]).iterdir())
tv = Twinvec(place.broker_url)
tv.embed(((f"warm/{file.name}", file) for file in files[: task["warm"]]), collection="warm").wait()

kinds = ("intake", "embedder")
before = [spent(place.workers[kind]) for kind in kinds]
own, start = time.process_time(), time.perf_counter()
outcome = tv.embed((file.name, file) for file in files).wait()
seconds, own = time.perf_counter() - start, time.process_time() - own
used = [own, *(spent(place.workers[kind]) - was for kind, was in zip(kinds, before, strict=True))]
tell(
    rate=len(files) / seconds,
    refused=len(files) - outcome.succeeded,
    cpu=[1000 * each / len(files) for each in used],
)
