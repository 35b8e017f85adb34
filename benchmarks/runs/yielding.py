"""One picture after the other, on an idle system and while stored digits are embedded under a candidate.

PostgreSQL itself says when a vector is committed: a trigger notifies of new digits under the live tower.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.digits import stream
from benchmarks.processes import tell, told
from db.engine import transact
from db.vectors.frame import Frame
from db.vectors.lifecycle import NewTower, register
from training.data import mnist
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network
from training.model.storage import fingerprint, save
from training.recipes import NOTEBOOK
from twinvec_client import Twinvec

TRIGGER = """
CREATE FUNCTION tell_embedded() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_notify(''embedded'', NEW.digit::text); RETURN NULL; END';
CREATE TRIGGER tell_embedded AFTER INSERT ON embeddings FOR EACH ROW
    WHEN (NEW.tower = {tower} AND NEW.digit > {stored}) EXECUTE FUNCTION tell_embedded();
"""
PAUSE = 0.05  # seconds in which the system becomes as it was
WARM = 20  # pictures that are not counted
LIMIT = 60.0  # seconds for one

task = told()
place = task["place"]
tv = Twinvec(place.broker_url)
pictures = stream(task["stored"] + 100_000)
committed, over = threading.Event(), threading.Event()


def listen(connection: psycopg.Connection) -> None:
    while not over.is_set():  # the connection is locked meanwhile, and cannot be closed
        for _ in connection.notifies(timeout=0.5, stop_after=1):
            committed.set()


def one_by_one(keys: Iterator[tuple[str, object]], until: Callable[[int], bool]) -> list[float]:
    """Seconds from the call of `embed` to the commit of each, until that says so."""
    took: list[float] = []
    for key, image in keys:
        if until(len(took)):
            break
        committed.clear()
        start = time.perf_counter()
        tv.embed({key: image})
        if not committed.wait(LIMIT):
            raise SystemExit(f"{key} was not embedded within {LIMIT:g} s")
        took.append(time.perf_counter() - start)
        time.sleep(PAUSE)
    return took


def new_tower() -> NewTower:
    """One with other first weights: it computes what a trained one does."""
    tower = folded(build_network(NOTEBOOK, seed=1))
    frame = Frame.fit(Embedder(tower)(mnist.load().train_images)).to_bytes()
    nothing: dict[str, Any] = {"settings": {}, "versions": {}, "metrics": {}, "history": {}}
    name, file = fingerprint(tower), save(tower)
    return NewTower(
        fingerprint=name, file=file, recipe="notebook", seed=1, data_digest="", threshold=0.5, frame=frame, **nothing
    )


tv.embed(dict(islice(pictures, task["stored"])), idempotency_key=str(uuid.uuid4())).wait()
candidate = new_tower()
with place.engine() as engine, Session(engine) as session:
    stored = session.execute(text("SELECT max(id) FROM digits")).scalar_one()
    session.execute(text(TRIGGER.format(tower=place.tower, stored=stored)))
    session.commit()
    open_batches = text("""
        SELECT count(*) FROM batches JOIN jobs ON jobs.id = job
        WHERE kind = 'backfill' AND state IN ('queued', 'leased')
    """)

    def left() -> int:
        found = int(session.execute(open_batches).scalar_one())
        session.rollback()
        return found

    url = place.database_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN embedded")
        listener = threading.Thread(target=listen, args=(connection,), daemon=True)
        listener.start()
        idle = one_by_one(pictures, lambda count: count >= WARM + task["count"])[WARM:]
        start = time.perf_counter()
        transact(engine, register, candidate)
        beside = one_by_one(pictures, lambda count: left() == 0)
        seconds = time.perf_counter() - start
        over.set()
        listener.join()
        tell(idle=idle, beside=beside, seconds=seconds, stored=task["stored"])
