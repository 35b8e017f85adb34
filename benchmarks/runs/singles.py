"""One picture after the other on an idle system: when its vector is committed, when `embed` and `wait` return. And, in
turn with them, an empty Celery task on default settings, over the same broker: until its result is there.

PostgreSQL itself says when a vector is committed: a trigger notifies, and a notification is delivered at the commit.
"""

import threading
import time

import psycopg

from benchmarks.digits import stream
from benchmarks.peer import LONGEST, worker
from benchmarks.processes import tell, told
from twinvec_client import Twinvec

TRIGGER = """
CREATE FUNCTION tell_embedded() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_notify(''embedded'', ''''); RETURN NULL; END';
CREATE TRIGGER tell_embedded AFTER INSERT ON embeddings FOR EACH ROW EXECUTE FUNCTION tell_embedded();
"""
PAUSE = 0.05  # seconds in which the system becomes idle again
WARM = 20  # pictures that are not counted

task = told()
place = task["place"]
committed: list[float] = []  # one time a picture, of time.perf_counter


def listen(connection: psycopg.Connection, count: int) -> None:
    for _ in connection.notifies(stop_after=count):
        committed.append(time.perf_counter())


tv = Twinvec(place.broker_url)
sent: list[float] = []
accepted: list[float] = []
known: list[float] = []
empty: list[float] = []
count = WARM + task["count"]
url = place.database_url.replace("postgresql+psycopg", "postgresql")
with psycopg.connect(url, autocommit=True) as connection, worker(place, 1) as peer:
    connection.execute(TRIGGER)
    connection.execute("LISTEN embedded")
    listener = threading.Thread(target=listen, args=(connection, count))
    listener.start()
    for key, image in stream(count):
        sent.append(time.perf_counter())
        job = tv.embed({key: image})
        accepted.append(time.perf_counter())
        job.wait()
        known.append(time.perf_counter())
        time.sleep(PAUSE)
        start = time.perf_counter()
        peer.send_nothing().get(timeout=LONGEST)
        empty.append(time.perf_counter() - start)
        time.sleep(PAUSE)
    listener.join(timeout=30)
if len(committed) != count:
    raise SystemExit(f"{count} pictures were sent and {len(committed)} commits seen")
after = {
    name: [time - start for time, start in zip(times, sent, strict=True)][WARM:]
    for name, times in (("committed", committed), ("accepted", accepted), ("told", known))
}
tell(**after, empty=empty[WARM:])
