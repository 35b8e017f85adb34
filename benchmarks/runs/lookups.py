"""Look pictures up one after the other: on an idle system, while a bulk job of another process runs, and after it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from sqlalchemy import func, select

from benchmarks import store
from benchmarks.digits import digits, stream
from benchmarks.place import Place
from benchmarks.processes import alone, tell, told
from db.tables import Embedding
from twinvec_client import Twinvec

IDLE = 200  # look-ups on an idle system
SETTLE = 5.0  # seconds before an idle system is measured

task = told()
place: Place = task["place"]
tv = Twinvec(place.broker_url)
queries = digits(0, 1000)


def look_up(until: Callable[[int], bool]) -> list[tuple[float, float]]:
    """When each look-up began, by time.time, and the seconds that it took."""
    done: list[tuple[float, float]] = []
    while not until(len(done)):
        start = time.time()
        tv.nearest(queries[len(done) % len(queries)], k=5)
        done.append((start, time.time() - start))
    return done


def idle() -> dict[str, object]:
    with place.engine() as engine:
        store.vacuum(engine)  # else it comes whenever autovacuum looks, and the index alone says little until then
    time.sleep(SETTLE)
    return {"seconds": [seconds for _, seconds in look_up(lambda done: done >= IDLE)], "vectors": vectors()}


def vectors() -> int:
    """How many there are to look through."""
    with place.engine() as engine, engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(Embedding)).scalar_one()


tv.embed(stream(task["stored"], name="stored"), collection="stored").wait()
before = idle()
with ThreadPoolExecutor(1) as pool:
    job = pool.submit(alone, "twinvec", place=asdict(place), count=task["bulk"], warm=1, png=False)
    asked = look_up(lambda _: job.done())
    began, seconds = job.result()["began"], job.result()["seconds"]
during = [took for start, took in asked if began <= start < began + seconds]
tell(
    before=before,
    during={"seconds": during, "vectors": vectors()},
    after=idle(),
    bulk=task["bulk"],
    rate=task["bulk"] / seconds,
)
