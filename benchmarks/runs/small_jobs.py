"""Many jobs of 1 to 10 pictures from 4 threads, until the last is done: Twinvec's, or a Celery task for each.

And, after Twinvec's and over the same broker, as many empty tasks of a Celery worker, one by one in each thread.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice

from benchmarks.digits import stream
from benchmarks.peer import LONGEST, await_all, worker
from benchmarks.processes import tell, told
from training.arrays import Uint8
from twinvec_client import Twinvec

THREADS = 4
PROCESSES = 2  # of the peer
WARM = 40  # jobs before the clock runs

task = told()
place = task["place"]
pictures = stream((task["jobs"] + WARM) * 10)
jobs = [dict(islice(pictures, 1 + index % 10)) for index in range(task["jobs"] + WARM)]
Part = list[dict[str, Uint8]]


def to_twinvec(part: Part) -> None:
    tv = Twinvec(place.broker_url)
    for job in [tv.embed(pictures) for pictures in part]:
        job.wait()


with ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:
    send: Callable[[Part], None] = to_twinvec
    if task["peer"]:
        peer = stack.enter_context(worker(place, PROCESSES))

        def send(part: Part) -> None:
            await_all([peer.send_many(list(pictures), pictures.values()) for pictures in part])

    def timed(send: Callable[[Part], object]) -> float:
        """Seconds of all but the first few."""
        for part in (jobs[:WARM], jobs[WARM:]):
            start = time.perf_counter()
            list(pool.map(send, [part[first::THREADS] for first in range(THREADS)]))
        return time.perf_counter() - start

    seconds, empty = timed(send), None
    if not task["peer"]:
        beside = stack.enter_context(worker(place, PROCESSES))
        empty = timed(lambda part: [beside.send_nothing().get(timeout=LONGEST) for _ in part])
tell(seconds=seconds, jobs=task["jobs"], pictures=sum(map(len, jobs[WARM:])), empty=empty)
