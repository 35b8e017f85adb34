"""What an operator sees of a training and of its tower."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stack.conftest import Stack

Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def trained(stack: Stack) -> dict[str, Any]:
    """What `twinvec train` answers."""
    done = stack.command("train", "--recipe", "quick", "--seed", "7", "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_report_is_written_on_one_tower_and_on_two(
    stack: Stack, tower: dict[str, Any], trained: dict[str, Any], digits: Digits, tmp_path: Path
) -> None:
    """On what workers train on; where this machine lacks that, on stored digits with labels, and it says so."""
    id, before = str(trained["outcome"]["tower"]), str(tower["id"])
    path = tmp_path / "report.html"
    written = json.loads(stack.command("report", id, "--to", str(path), "--json").stdout)
    assert (written["path"], written["towers"], written["left_out"]) == (str(path), [int(id)], [])
    assert trained["outcome"]["fingerprint"] in path.read_text()

    images, labels = digits
    pictures = {f"{at}": image for at, image in enumerate(images)}
    stack.client().embed(
        pictures, collection="report", labels={f"{at}": int(label) for at, label in enumerate(labels)}
    ).wait(timeout=60)
    elsewhere = {**stack.environment, "TWINVEC_DATA": str(tmp_path / "nothing.npz")}
    done = stack.command("report", before, "last", cwd=tmp_path, environment=elsewhere)
    beside = (tmp_path / done.stdout.strip()).read_text()
    assert "not on this machine" in done.stderr
    assert "stored digits with labels" in beside
    assert tower["fingerprint"] in beside
    assert "Judged pairs" in beside


@pytest.mark.parametrize("words", [("999",), ("last", "last")], ids=" ".join)
def test_a_report_on_no_tower_is_refused(stack: Stack, trained: dict[str, Any], words: tuple[str, ...]) -> None:
    refused = stack.command("report", *words, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_a_tower_shows_all_that_was_measured(stack: Stack, trained: dict[str, Any]) -> None:
    outcome = trained["outcome"]
    shown = stack.command("tower", str(outcome["tower"])).stdout
    assert outcome["fingerprint"] in shown
    for measure in ("pair_accuracy", "nearest_1", "nearest_5", "recall_10", "map_at_r"):
        assert f"{outcome['metrics'][measure]:.4f}" in shown
    assert "accepted" in shown
    assert "800 of the data set" in shown
    assert "tensorflow" in shown
    known = json.loads(stack.command("tower", str(outcome["tower"]), "--json").stdout)
    assert known["metrics"] == outcome["metrics"]
    calibration = outcome["metrics"]["calibration"]
    assert known["threshold"] == calibration["threshold"]
    assert f"{calibration['vote']['error']:.4f}" in shown
    (common, rare) = calibration["false_accepts"]
    assert f"{common['distance']:.3f}" in shown
    assert rare["distance"] is None  # so few test images cannot show one in a thousand
    assert "too few test images to tell" in shown


def test_a_tower_that_is_not_there_is_one_sentence(stack: Stack) -> None:
    refused = stack.command("tower", "999", check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "999" in refused.stderr


def test_a_training_that_ended_is_left_as_it_is(stack: Stack, trained: dict[str, Any]) -> None:
    stopped = json.loads(stack.command("stop", trained["job"], "--json").stdout)
    assert stopped["state"] == "finished"
    refused = stack.command("stop", "0b9f3c52-0c8e-4b62-8c0e-0e4ed1a2a6d1", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_a_retraining_is_one_job_that_can_be_watched_and_dropped(stack: Stack, trained: dict[str, Any]) -> None:
    job = stack.command("retrain", "--data", "mnist", "--recipe", "conv", "--detach").stdout.strip()
    refused = stack.command("retrain", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert job in refused.stderr
    shown = json.loads(stack.command("job", job, "--json").stdout)
    assert shown["stage"]["name"] in ("waiting", "training", "backfill")
    assert json.loads(stack.command("cancel", job, "--json").stdout)["state"] == "cancelled"
    assert stack.one("SELECT count(*) FROM checkpoints") == 0
    schedule = json.loads(stack.command("schedule", "--json").stdout)
    assert (schedule["cron"], schedule["running"]) == (None, None)
    assert "TWINVEC_TRAIN_CRON" in stack.command("schedule").stdout
    assert stack.command("retrain", "--data", "nonsense", check=False).returncode == 2
