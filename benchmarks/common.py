"""What the benchmarks of the queue share: digits without end, fresh servers, processes of their own, and tables."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import Engine

from benchmarks import machine
from db.engine import connect, transact
from db.schema import migrate
from db.vectors.lifecycle import NewTower, register
from local.servers import Servers
from local.signals import Interrupts
from local.stack import Stack
from training.data import mnist
from training.data.dataset import Bytes
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BLOCK = 1_000  # digits that are made at a time
# What TensorFlow and Ray say of their start, whatever level they are set to; nothing of it is an error.
CHATTER = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} [\d:.]+ +\d+ \S+\.cc:\d+\] "
    r"|\[\d{4}-[-\d :,]+ I \d+ \d+\] |\d{4}-[-\d :,]+\t(INFO|WARNING) \S+\.py:\d+ -- "
)
# By how many rows and columns MNIST is shifted each time it begins anew: none, then ever more.
SHIFTS = sorted(product(range(-4, 5), repeat=2), key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))

Row = Sequence[object]


# --- digits ---


@cache
def originals() -> Bytes:
    """MNIST's 70,000 digits, (70000, 28, 28) uint8."""
    data = mnist.load()
    return np.concatenate([data.train_images, data.test_images])


def digits(start: int, stop: int) -> Bytes:
    """Digits `start` to `stop` of a long row: MNIST, then MNIST shifted, and so on; (n, 28, 28) uint8."""
    images = originals()
    count = len(images)
    turns = range(start // count, (stop - 1) // count + 1)
    return np.concatenate(
        [
            np.roll(images[max(start - turn * count, 0) : stop - turn * count], SHIFTS[turn], axis=(1, 2))
            for turn in turns
        ]
    )


def blocks(count: int, size: int = BLOCK, *, name: str = "digit") -> Iterator[tuple[list[str], Bytes]]:
    """The first `count` digits with their keys, `size` at a time: any number in constant memory."""
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield [f"{name}/{index:07}" for index in range(start, stop)], digits(start, stop)


def stream(count: int, *, name: str = "digit") -> Iterator[tuple[str, Bytes]]:
    """The first `count` digits as the client takes them: (key, (28, 28) uint8)."""
    for keys, images in blocks(count, name=name):
        yield from zip(keys, images, strict=True)


def encoded(count: int) -> list[tuple[str, bytes]]:
    """The first `count` digits as PNG files, all made at once, so that whoever times their reading times only that."""
    return [(key, _png(image)) for key, image in stream(count)]


def _png(image: Bytes) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


# --- servers ---


@dataclass(frozen=True)
class Place:
    """Where a run stores its digits: an empty ledger with one live tower."""

    broker_url: str
    database_url: str  # for SQLAlchemy
    tower: int
    tower_file: str
    folder: str  # for what a run leaves behind
    workers: dict[str, int]  # process ids by kind; empty where no worker of Twinvec runs

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        engine = connect(self.database_url)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def ledger() -> Iterator[Place]:
    """Embedded servers of a run's own; they and all they stored are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="twinvec-bench-") as folder,
        Servers(Path(folder) / "servers", broker_port=0) as servers,
    ):
        settings = Settings(database_url=servers.database_url, broker_url=servers.broker_url)
        engine = connect(settings.database() or "")
        migrate(engine)
        tower = transact(engine, register, _new_tower()).id
        engine.dispose()
        yield Place(
            broker_url=servers.broker_url,
            database_url=settings.database() or "",
            tower=tower,
            tower_file=str(_tower()["file"]),
            folder=folder,
            workers={},
        )


@contextmanager
def everything() -> Iterator[Place]:
    """The same, and the workers that `twinvec up` starts, ready for work."""
    with ledger() as place, Interrupts() as interrupts:
        home = Path(place.folder) / "workers"
        stack = Stack(Settings(home=home, broker_url=place.broker_url, database_url=place.database_url))
        try:
            stack.start()
            stack.supervise_aside()
            noted = json.loads((home / "run.json").read_text())
            yield Place(**asdict(place) | {"workers": noted["workers"]})
        finally:
            stack.stop(interrupts, grace=5)


@cache
def _tower() -> dict[str, Any]:
    """A tower with its first weights: it computes what a trained one does. Its `file` and `fingerprint`."""
    folder = ROOT / ".twinvec" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return alone("tower", file=str(folder / "tower.keras"))


def _new_tower() -> NewTower:
    return NewTower(
        fingerprint=_tower()["fingerprint"],
        file=Path(_tower()["file"]).read_bytes(),
        recipe="notebook",
        settings={},
        seed=0,
        data_digest="",
        versions={},
        metrics={},
        history={},
        threshold=0.5,
    )


# --- processes ---


def alone(run: str, **told: Any) -> dict[str, Any]:
    """What `benchmarks/runs/<run>.py` tells, run in a process of its own. Ends this process where it fails."""
    command = [sys.executable, "-m", f"benchmarks.runs.{run}", json.dumps(told)]
    with subprocess.Popen(
        command, env=quiet(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"{run} failed with status {process.returncode}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _pass_on(lines: Iterable[str]) -> None:
    """Put on stderr what is not CHATTER."""
    for line in lines:
        if not CHATTER.match(line):
            print(line, end="", file=sys.stderr, flush=True)


def told() -> dict[str, Any]:
    """In such a process: what it was told."""
    words: dict[str, Any] = json.loads(sys.argv[1])
    return words | {"place": Place(**words["place"])} if "place" in words else words


def tell(**answer: Any) -> None:
    """In such a process: its answer."""
    print(json.dumps(answer), flush=True)


def quiet() -> dict[str, str]:
    """The environment without Twinvec's settings, where TensorFlow and Ray are silent, and Ray reports to nobody."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
    silent = {"TF_CPP_MIN_LOG_LEVEL": "3", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | silent | {"PYTHONPATH": str(ROOT)}


# --- pages ---


def table(heads: Sequence[str], rows: Sequence[Row], *, words: int = 1) -> str:
    """A Markdown table, its first `words` columns flush left."""
    marks = ["---" if at < words else "---:" for at in range(len(heads))]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in (heads, marks, *rows))


def spread(values: Sequence[float], places: int = 0) -> str:
    """`median (lowest to highest)`; of one value, itself."""
    middle = f"{statistics.median(values):,.{places}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{places}f} to {max(values):,.{places}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def circumstances(load: float) -> str:
    """Where this ran; `load` is the load average before it began."""
    return (
        f"{machine.described()}. The load average before it began was {load:.1f}: above 0, other work took its share."
    )


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a result, and put it between its section's marks on the page. Raises ValueError where there are none."""
    print(text)
    if write:
        begin, end = f"<!-- {section} -->", f"<!-- {section}: end -->"
        page = PAGE.read_text()
        before, rest = page[: page.index(begin)], page[page.index(end) :]
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{rest}")
