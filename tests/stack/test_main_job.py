"""A picture's whole way: through the client, the broker, the workers and the ledger, and back as a neighbour."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stack.conftest import Stack, until
from twinvec_client import (
    Digit,
    IdempotencyConflict,
    InvalidRequest,
    NoTower,
    PictureRefused,
    TrainingRunning,
    UnknownJob,
    UnknownKey,
)

Digits = tuple[np.ndarray, np.ndarray]


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_pictures_sent_before_there_is_a_tower_get_their_vectors_when_it_comes(
    stack: Stack, digits: Digits, request: pytest.FixtureRequest
) -> None:
    tv = stack.client()
    images, labels = digits
    job = tv.embed({f"early/{n}": images[n] for n in range(50)}, labels=lambda key: int(labels[int(key[6:])]))
    assert job.status().state == "waiting_for_tower"
    with pytest.raises(NoTower):
        tv.nearest(images[0])

    tower = request.getfixturevalue("tower")
    outcome = job.wait(timeout=60)

    assert (outcome.state, outcome.succeeded) == ("finished", 50)
    answer = tv.nearest(images[7], k=1)
    assert answer.tower == tower["fingerprint"]
    assert answer.exact
    assert answer.neighbours[0].key == "early/7"
    assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-5)
    assert answer.neighbours[0].label == labels[7]


def test_every_picture_has_one_vector_and_the_same_job_again_changes_nothing(
    stack: Stack, tower: dict[str, Any], digits: Digits
) -> None:
    tv = stack.client()
    images, labels = digits
    pictures = {f"{n}": images[n] for n in range(300)}
    sent: dict[str, Any] = {
        "collection": "once",
        "labels": {key: int(labels[int(key)]) for key in pictures},
        "idempotency_key": "once",
    }
    first = tv.embed(pictures, **sent)
    assert first.wait(timeout=60).succeeded == 300

    again = tv.embed(pictures, **sent)
    assert again.id == first.id
    assert again.wait(timeout=60).succeeded == 300
    other = tv.embed(pictures, collection="once")
    assert (other.wait(timeout=60).unchanged, other.status().succeeded) == (300, 0)
    with pytest.raises(IdempotencyConflict):
        tv.embed({"0": images[1]}, **sent)

    assert stack.one("SELECT count(*) FROM digits WHERE collection = 'once'") == 300
    assert (
        stack.one(
            "SELECT count(*) FROM embeddings JOIN digits ON id = digit WHERE collection = 'once' AND tower = :tower",
            tower=tower["id"],
        )
        == 300
    )


def test_a_bad_picture_costs_only_itself(stack: Stack, tower: dict[str, Any], digits: Digits, tmp_path: Path) -> None:
    images, _ = digits
    good = {f"good/{n}": png(images[n]) for n in range(5)}
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "truncated.png").write_bytes(png(images[0])[:120])
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(tmp_path / "deep.tiff")
    bad = {path.name: path for path in tmp_path.iterdir()} | {
        "missing": tmp_path / "missing.png",
        "nan": np.full((28, 28), np.nan),
        "cube": np.zeros((28, 28, 28), np.uint8),
    }

    job = stack.client().embed({**good, **bad}, collection="mixed")
    outcome = job.wait(timeout=60)

    assert (outcome.state, outcome.succeeded, outcome.failed) == ("finished_with_failures", 5, 8)
    reasons = {failure.key: failure.reason for failure in job.failures()}
    assert reasons == {
        "empty.png": "empty",
        "text.png": "not_a_picture",
        "truncated.png": "damaged",
        "huge.png": "too_many_pixels",
        "deep.tiff": "unsupported_depth",
        "missing": "unreadable",
        "nan": "bad_array",
        "cube": "bad_array",
    }
    assert all(failure.message for failure in job.failures())


def test_what_failed_can_be_looked_at_and_sent_again(
    stack: Stack, tower: dict[str, Any], digits: Digits, tmp_path: Path
) -> None:
    images, _ = digits
    tv = stack.client()
    truncated = png(images[1])[:150]
    pictures = [("../twice", images[0]), ("../twice", images[1]), ("half", Digit(truncated, 3, {"page": 2}))]
    job = tv.embed([*pictures, ("gone", tmp_path / "gone.png")], collection="again")
    assert job.wait(timeout=60).failed == 3

    kept = {failure.key: failure for failure in job.failures(pictures=True)}
    assert kept["half"].picture == truncated
    assert (kept["half"].label, kept["half"].attributes) == (3, {"page": 2})
    assert kept["../twice"].picture == images[0].tobytes()
    assert kept["gone"].picture is None
    stack.command("failures", job.id, "--save", str(tmp_path / "saved"))
    saved = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert saved["half"] == truncated
    with Image.open(tmp_path / "saved" / "%2Ftwice.png") as picture:
        assert (np.asarray(picture) == images[0]).all()

    again = job.retry()
    assert again.id != job.id
    outcome = again.wait(timeout=60)
    assert (outcome.succeeded, outcome.failed) == (0, 1)  # the first of the twice-sent does not replace the second
    assert tv.nearest(images[1], k=1, collection="again").neighbours[0].distance == pytest.approx(0, abs=1e-5)
    assert len(list(job.failures())) == 3


def test_an_encoded_picture_gets_the_vector_of_its_array(stack: Stack, tower: dict[str, Any], digits: Digits) -> None:
    images, _ = digits
    tv = stack.client()
    tv.embed({"array": images[3]}, collection="array").wait(timeout=60)
    tv.embed({"file": png(images[3])}, collection="file").wait(timeout=60)
    answer = tv.nearest(images[3], k=1, collection="file")
    assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-5)


def test_neighbours_are_those_that_brute_force_finds(stack: Stack, tower: dict[str, Any], digits: Digits) -> None:
    images, _ = digits
    tv = stack.client()
    tv.embed({f"{n}": images[n] for n in range(100, 300)}, collection="brute").wait(timeout=60)
    engine = stack.engine()
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT key, vector::real[] FROM embeddings JOIN digits ON id = digit "
            "WHERE collection = 'brute' AND tower = (SELECT id FROM towers WHERE status = 'live')"
        ).all()
    engine.dispose()
    keys, vectors = [row[0] for row in rows], np.array([row[1] for row in rows])
    query = vectors[17]
    distances = np.linalg.norm(vectors - query, axis=1)
    expected = [keys[at] for at in np.argsort(distances)[:10]]

    by_vector = tv.nearest(vector=query, tower=tv.nearest(images[0], k=1).tower, k=10, collection="brute")
    assert [neighbour.key for neighbour in by_vector] == expected
    assert [neighbour.distance for neighbour in by_vector] == pytest.approx(sorted(distances)[:10], abs=1e-5)
    by_key = tv.nearest(key=keys[17], k=9, collection="brute")
    assert [neighbour.key for neighbour in by_key] == expected[1:]
    many = tv.nearest_many([images[int(key)] for key in keys[:20]], k=1, collection="brute")
    assert [answer.neighbours[0].key for answer in many] == keys[:20]


def test_refusals_arrive_as_errors_of_their_own_class(stack: Stack, tower: dict[str, Any]) -> None:
    tv = stack.client()
    with pytest.raises(UnknownKey, match="no stored digit has the key 'nobody'"):
        tv.nearest(key="nobody")
    with pytest.raises(PictureRefused, match="not_a_picture"):
        tv.nearest(b"this is no picture")
    with pytest.raises(InvalidRequest, match="recipe"):
        tv.train(recipe="no such recipe")
    with pytest.raises(InvalidRequest, match="k is 0"):
        tv.nearest(np.zeros((28, 28), np.uint8), k=0)
    with pytest.raises(UnknownJob):
        tv.job("00000000-0000-0000-0000-000000000000")


def test_a_retrained_tower_takes_over_when_every_digit_is_embedded_under_it(
    stack: Stack, tower: dict[str, Any], digits: Digits
) -> None:
    images, _ = digits
    tv = stack.client()
    tv.embed({f"{n}": images[n] for n in range(100)}, collection="retrained").wait(timeout=60)
    old = next(one for one in tv.towers() if one.status == "live")
    training = tv.train(recipe="notebook", seed=old.seed + 1)
    with pytest.raises(TrainingRunning, match=training.id):
        tv.train(recipe="notebook", seed=3)
    outcome = training.wait(timeout=120)
    assert outcome.fingerprint != old.fingerprint

    def promoted() -> bool:
        answer = tv.nearest(images[5], k=1, collection="retrained")  # answered all the while, by either
        assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-5)
        return answer.tower == outcome.fingerprint

    until(promoted, "the promotion")
    towers = {one.id: one for one in tv.towers()}
    assert towers[old.id].status == "previous"
    new = towers[outcome.tower]
    assert (new.status, new.due) == ("live", 0)
    assert new.embedded == stack.one("SELECT count(*) FROM digits")


def test_what_is_cancelled_stops_and_its_counts_add_up(stack: Stack, tower: dict[str, Any], digits: Digits) -> None:
    images, _ = digits
    tv = stack.client()
    moved = ((f"{n}", np.roll(images[n % 300], n // 300, axis=1)) for n in range(8_000))
    job = tv.embed(moved, collection="cancelled", normalise=False)
    status = job.cancel()
    assert status.final
    assert status.settled == status.total == 8_000
    stored = (
        "SELECT count(*) FROM embeddings JOIN digits ON id = digit WHERE collection = 'cancelled' AND tower = :tower"
    )
    live = next(one.id for one in tv.towers() if one.status == "live")
    assert stack.one(stored, tower=live) == status.succeeded
    assert job.status().settled == 8_000
