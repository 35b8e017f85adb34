"""Send small jobs, one after the other and of all sizes, until the embedder has worked on so many batches; its size."""

import itertools

import psutil
from sqlalchemy import func, select

from benchmarks.digits import stream
from benchmarks.processes import tell, told
from db.tables import Batch
from twinvec_client import Twinvec

LARGEST = 300  # pictures of a job
STEP = 20  # jobs between two looks

task = told()
place, wanted = task["place"], task["batches"]
embedder = psutil.Process(task["embedder"])
tv = Twinvec(place.broker_url)
pictures = stream(10_000_000)
done = select(func.count()).select_from(Batch).where(Batch.state == "done")
sizes: list[tuple[int, int]] = []  # batches done, bytes resident
with place.engine() as engine:
    for turn in itertools.count():
        tv.embed(itertools.islice(pictures, 1 + turn * 37 % LARGEST)).wait()
        if turn % STEP == 0:
            with engine.connect() as connection:
                batches = connection.execute(done).scalar_one()
            sizes.append((batches, embedder.memory_info().rss))
            if batches >= wanted:
                break
tell(sizes=sizes)
