"""Pictures that look like no digit: stored, marked and listed, and nothing matches them."""

import uuid
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from db.queue import jobs
from db.tables import Digit
from db.vectors import lifecycle
from tasks.embed import embed
from tasks.intake import take_in
from tasks.jobs import doubtful_of
from tasks.query import look_up
from tests.makers import Array, picked, trained
from tests.tasks.test_intake import JOB, payload
from training.data.dataset import Dataset
from training.fit.gate import Gate
from twinvec_client.contract.messages import ENCODED, GLYPH, DoubtfulOf, Intake, Nearest
from twinvec_client.contract.packing import pack
from worker.runtime import Runtime


@pytest.fixture
def live(runtime: Runtime, sample: Dataset) -> None:
    """A live tower whose gate knows MNIST."""

    def seen(images: Array) -> Array:
        return picked(1, images.reshape(-1, 784))

    gate = Gate.fit(
        sample.train_images,
        sample.train_labels,
        seen(sample.train_images),
        sample.test_images,
        seen(sample.test_images),
    )
    tower = replace(trained("first"), gate=gate.to_bytes())
    assert runtime.transact(lambda session: lifecycle.register(session, tower).id) == 1


def png(levels: Array) -> bytes:
    file = BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def scrawl() -> Array:
    """Thick bars down a small page: read without a complaint, and no digit."""
    page = np.full((40, 40), 255, np.uint8)
    for left in range(6, 34, 5):
        page[6:34, left : left + 3] = 0
    return page


def scan(digit: Array) -> Array:
    large = Image.fromarray(digit).resize((112, 112), Image.Resampling.BICUBIC)
    return np.asarray(255 - np.pad(np.asarray(large), 20), np.uint8)


def embedded(runtime: Runtime, **changes: Any) -> None:
    take_in(Intake.read(payload(**changes, refused=[], normalise=True)), runtime)
    embed(1, runtime)


def test_a_picture_that_looks_like_no_digit_is_stored_marked_and_listed(
    runtime: Runtime, live: None, sample: Dataset
) -> None:
    embedded(
        runtime,
        keys=["scan", "scrawl", "as sent"],
        item_types=bytes([ENCODED, ENCODED, GLYPH]),
        glyphs=pack(sample.test_images[3].tobytes()),
        encoded=[png(scan(sample.test_images[3])), png(scrawl())],
        labels=[None, 4, None],
    )
    job = uuid.UUID(JOB)
    found = runtime.transact(jobs.status, job)
    assert (found.succeeded, found.doubtful, found.state) == (3, 1, "finished")
    (digit,) = doubtful_of(DoubtfulOf(job=JOB, after="", limit=10, pictures=True), runtime)["digits"]
    assert (digit["key"], digit["label"], len(digit["picture"])) == ("scrawl", 4, 784)
    assert doubtful_of(DoubtfulOf(job=JOB, after="scrawl", limit=10, pictures=False), runtime)["digits"] == []
    rows = runtime.transact(lambda session: session.execute(select(Digit.key, Digit.doubtful)).all())
    assert {key: mark for key, mark in rows} == {"scan": False, "scrawl": True, "as sent": None}


def ask(runtime: Runtime, picture: Array, *, normalise: bool = True) -> dict[str, Any]:
    plain = {"k": 3, "match": True, "pictures": False, "normalise": normalise}
    filters = dict.fromkeys(("collection", "label", "attributes", "max_distance"))
    asked = Nearest.read({"queries": [{"encoded": png(picture)}], **plain, **filters})
    (answer,) = look_up(asked, runtime)["answers"]
    found: dict[str, Any] = answer
    return found


def test_nothing_matches_what_looks_like_no_digit(runtime: Runtime, live: None, sample: Dataset) -> None:
    clean = scan(sample.test_images[3])
    embedded(
        runtime, keys=["a", "b"], item_types=bytes([ENCODED] * 2), glyphs=pack(b""),
        encoded=[png(clean), png(scrawl())], labels=[4, 4], attributes=[None, None], total=2,
    )  # fmt: skip
    known, strange = ask(runtime, clean), ask(runtime, scrawl())
    assert (known["doubtful"], known["match"]["matched"]) == (False, True)
    assert (strange["doubtful"], strange["match"]["matched"]) == (True, False)
    assert strange["neighbours"][0]["key"] == "b"  # it is found all the same
    assert ask(runtime, sample.test_images[3], normalise=False)["doubtful"] is None
