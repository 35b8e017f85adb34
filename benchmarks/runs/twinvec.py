"""Twinvec, seen from an application: `embed` until the job is done. The clock runs from the call to that answer."""

import time

from sqlalchemy import text

from benchmarks.digits import encoded, stream
from benchmarks.processes import tell, told
from twinvec_client import Twinvec

task = told()
place, count, name = task["place"], task["count"], task.get("name", "digit")
tv = Twinvec(place.broker_url)
tv.embed(stream(task["warm"], name=f"warm {name}"), collection="warm").wait()
pictures = encoded(count) if task["png"] else stream(count, name=name)

began, start, used = time.time(), time.perf_counter(), time.process_time()
job = tv.embed(pictures)
sent = time.perf_counter()
outcome = job.wait()
seconds, used = time.perf_counter() - start, time.process_time() - used

if outcome.succeeded != count:
    raise SystemExit(f"{count} sent: {outcome}")
stages = text(
    "SELECT name, sum(value::float8) AS sum FROM batches, jsonb_each_text(seconds) AS stage (name, value) "
    "WHERE job = :job GROUP BY name"
)
with place.engine() as engine, engine.connect() as connection:
    spent = {row.name: row.sum for row in connection.execute(stages, {"job": job.id})}
tell(began=began, seconds=seconds, accepted=sent - start, stages=spent, cpu=used)
