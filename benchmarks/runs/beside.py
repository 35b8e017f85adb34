"""One picture after the other: on an idle system, and while a bulk job of another process runs. And that job alone, on
the same servers, before and after."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from benchmarks.digits import stream
from benchmarks.place import Place
from benchmarks.processes import alone, tell, told
from twinvec_client import Twinvec

WARM = 20  # pictures that are not counted
PAUSE = 0.5  # seconds between two: as somebody sends them who looks at what comes back

task = told()
place: Place = task["place"]
tv = Twinvec(place.broker_url)
singles = stream(1_000_000, name="single")


def one_by_one(until: Callable[[int], bool]) -> list[tuple[float, float]]:
    """When each was sent, by time.time, and the seconds until its job was known to be done."""
    done: list[tuple[float, float]] = []
    while not until(len(done)):
        key, image = next(singles)
        start = time.time()
        outcome = tv.embed({key: image}, collection="singles").wait()
        done.append((start, time.time() - start))
        if not outcome.succeeded:
            raise SystemExit(f"a picture was sent: {outcome}")
        time.sleep(PAUSE)
    return done


def bulk(name: str) -> dict[str, float]:
    return alone("twinvec", place=asdict(place), count=task["bulk"], warm=1, png=False, name=name)


def rate(run: dict[str, float]) -> float:
    return float(task["bulk"] / run["seconds"])


one_by_one(lambda done: done >= WARM)
first = bulk("first")
before = one_by_one(lambda done: done >= task["count"])
with ThreadPoolExecutor(1) as pool:
    job = pool.submit(bulk, "beside")
    asked = one_by_one(lambda _: job.done())
    run = job.result()
during = [took for start, took in asked if run["began"] <= start < run["began"] + run["seconds"]]
last = bulk("last")
tell(before=[seconds for _, seconds in before], during=during, rate=rate(run), undisturbed=[rate(first), rate(last)])
