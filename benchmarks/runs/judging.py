"""Register candidates made worse on purpose, one as good, and say what became of each, while look-ups go on.

Then roll back, and compare the answers with those from before.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.processes import tell, told
from db.engine import transact
from db.tables import Tower
from db.vectors.frame import Frame
from db.vectors.lifecycle import NewTower, register
from training.data import mnist
from training.data.dataset import Dataset
from training.fit.train import train
from training.model.embedder import Embedder
from training.model.storage import fingerprint, load, save
from training.recipes import NOTEBOOK, QUICK
from twinvec_client import Answer, Twinvec

JUDGED = 60  # pairs at most
STRETCH = 1.02
ASKED = 200  # look-ups whose answers are compared before and after
WITHIN = 600.0  # seconds for one candidate

task = told()
place = task["place"]
tv, data = Twinvec(place.broker_url), mnist.load()
images, labels = data.test_images[: task["stored"]], data.test_labels[: task["stored"]]
some = data.train_images[:10_000], data.train_labels[:10_000]
folder = Path(place.tower_file).parent
answered, wrong, over = list[str](), list[str](), threading.Event()


def dataset(train_labels: Any = None) -> Dataset:
    given = some[1] if train_labels is None else train_labels
    tests = data.test_images[-1000:], data.test_labels[-1000:]
    return Dataset(
        train_images=some[0], train_labels=given, test_images=tests[0], test_labels=tests[1], source="a part of MNIST"
    )


def new(model: keras.Sequential, frame: bytes | None = None) -> NewTower:
    frame = Frame.fit(Embedder(model)(data.train_images)).to_bytes() if frame is None else frame
    return NewTower(
        fingerprint=fingerprint(model),
        file=save(model),
        recipe="notebook",
        settings={},
        seed=0,
        data_digest="",
        versions={},
        metrics={},
        history={},
        threshold=0.5,
        frame=frame,
    )


def one_epoch() -> NewTower:
    return new(train(replace(NOTEBOOK, epochs=1), dataset(), seed=1).tower)


def shuffled() -> NewTower:
    order = np.random.default_rng(0).permutation(len(some[1]))
    return new(train(QUICK, dataset(some[1][order]), seed=1).tower)


def not_a_number() -> NewTower:
    model = load(Path(place.tower_file).read_bytes())
    weights = model.get_weights()
    weights[-1][0] = np.nan
    model.set_weights(weights)
    return new(model, frame=(folder / "default.frame").read_bytes())


def turned(stretch: float = 1.0) -> keras.Sequential:
    """The live tower, its vectors turned about the origin: other numbers, and the same distances, or so much larger."""
    model = load(Path(place.tower_file).read_bytes())
    weights = model.get_weights()
    about = np.linalg.qr(np.random.default_rng(1).standard_normal((128, 128)))[0] * stretch
    weights[-2], weights[-1] = weights[-2] @ about, weights[-1] @ about
    model.set_weights([each.astype(np.float32) for each in weights])
    return model


def wrong_on_judged_pairs() -> NewTower:
    """One under which all is a little farther apart, and judged pairs of one digit that come to lie beyond the
    threshold by that."""
    live = Embedder(load(Path(place.tower_file).read_bytes()))(images)
    pairs = list[tuple[str, str, bool]]()
    for one in range(len(images)):
        distances = np.linalg.norm(live[one + 1 :] - live[one], axis=1)
        beyond = (distances <= 0.499) & (distances * STRETCH >= 0.501) & (labels[one + 1 :] == labels[one])
        pairs += [(f"{one}", f"{one + 1 + two}", True) for two in np.flatnonzero(beyond)]
        if len(pairs) >= JUDGED:
            break
    assert tv.judge_many(pairs[:JUDGED]) == []
    return new(turned(STRETCH))


def as_good() -> NewTower:
    return new(turned())


def candidate(make: Callable[[], NewTower]) -> dict[str, Any]:
    """What became of it."""
    tower = transact(engine, register, make()).id
    deadline = time.monotonic() + WITHIN
    while (found := _row(tower)).status == "candidate" and time.monotonic() < deadline:
        time.sleep(0.2)
    verdict = found.verdict or {"reasons": []}
    failed = [reason["said"] for reason in verdict["reasons"] if not reason["passed"]]
    said = failed or [reason["said"] for reason in verdict["reasons"]]
    return {"name": make.__name__.replace("_", " "), "status": str(found.status), "said": said}


def _row(tower: int) -> Tower:
    with Session(engine) as session:
        return session.execute(select(Tower).where(Tower.id == tower)).scalar_one()


def ask_all_the_time() -> None:
    at = 0
    asking = Twinvec(place.broker_url)
    while not over.is_set():
        at = (at + 1) % len(images)
        try:
            answer = asking.nearest(images[at], k=1)
            answered.append(answer.tower)
            if answer.neighbours[0].key != str(at):
                wrong.append(f"{at}: {answer.neighbours[0].key}")
        except Exception as error:
            wrong.append(f"{at}: {error}")


def answers() -> list[Answer]:
    asked = list(images[:ASKED])
    return [replace(each, seconds=0, compared=0) for each in tv.nearest_many(asked, k=10, collection="default")]


with place.engine() as engine:
    tv.embed({str(at): image for at, image in enumerate(images)}, labels=lambda key: int(labels[int(key)])).wait()
    asking = threading.Thread(target=ask_all_the_time)
    asking.start()
    try:
        refused = [candidate(make) for make in (one_epoch, shuffled, not_a_number, wrong_on_judged_pairs)]
        live = set(answered)
        before = answers()
        good = candidate(as_good)
        meanwhile = {f"later {at}": image for at, image in enumerate(data.train_images[:500])}
        tv.embed(meanwhile, collection="later").wait()
        between = answers()
        start = time.perf_counter()
        change = tv.rollback()
        seconds = time.perf_counter() - start
        after = answers()
        found = [tv.nearest(image, k=1, collection="later").neighbours[0].key for image in meanwhile.values()]
    finally:
        over.set()
        asking.join()
tell(
    candidates=[*refused, good],
    live_until_then=len(live),
    queries=len(answered),
    wrong=wrong[:5],
    rollback={
        "status": change.status,
        "seconds": seconds,
        "said": change.said,
        "asked": ASKED,
        "the same": before == after,
        "under the other": before == between,
        "found": sum(key == name for key, name in zip(found, meanwhile, strict=True)),
        "of": len(meanwhile),
    },
)
