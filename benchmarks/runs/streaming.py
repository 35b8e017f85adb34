"""Send one long stream, and look at this process's own size on the way."""

from collections.abc import Iterator

import psutil

from benchmarks.digits import stream
from benchmarks.processes import tell, told
from training.arrays import Uint8
from twinvec_client import Twinvec

STEP = 5_000  # digits between two looks

task = told()
place, count = task["place"], task["count"]
process = psutil.Process()
sizes: list[tuple[int, int]] = []  # digits read, bytes resident


def watched() -> Iterator[tuple[str, Uint8]]:
    for index, pair in enumerate(stream(count)):
        if index % STEP == 0:
            sizes.append((index, process.memory_info().rss))
        yield pair
    sizes.append((count, process.memory_info().rss))


outcome = Twinvec(place.broker_url).embed(watched()).wait()
if outcome.succeeded != count:
    raise SystemExit(f"{count} sent: {outcome}")
tell(sizes=sizes)
