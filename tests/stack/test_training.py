"""What an operator sees of a training and of its tower."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.stack.conftest import Stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plots")


@pytest.fixture(scope="module")
def trained(stack: Stack, folder: Path) -> dict[str, Any]:
    """What `twinvec train --plots` answers."""
    done = stack.command("train", "--recipe", "quick", "--seed", "7", "--plots", str(folder), "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_pictures_of_a_training_are_drawn(trained: dict[str, Any], folder: Path) -> None:
    assert {"digits", "pairs", "training", "judged", "check"} <= {Path(plot).stem for plot in trained["plots"]}
    for plot in trained["plots"]:
        assert Path(plot).parent == folder
        with Image.open(plot) as picture:
            assert min(picture.size) > 100


def test_a_tower_shows_all_that_was_measured(stack: Stack, trained: dict[str, Any]) -> None:
    outcome = trained["outcome"]
    shown = stack.command("towers", str(outcome["tower"])).stdout
    assert outcome["fingerprint"] in shown
    for measure in ("pair_accuracy", "nearest_1", "nearest_5", "recall_10", "map_at_r"):
        assert f"{outcome['metrics'][measure]:.4f}" in shown
    assert "accepted" in shown
    known = json.loads(stack.command("towers", str(outcome["tower"]), "--json").stdout)
    assert known["metrics"] == outcome["metrics"]
    calibration = outcome["metrics"]["calibration"]
    assert known["threshold"] == calibration["threshold"]
    assert f"{calibration['vote']['error']:.4f}" in shown
    (common, rare) = calibration["false_accepts"]
    assert f"{common['distance']:.3f}" in shown
    assert rare["distance"] is None  # so few test images cannot show one in a thousand
    assert "too few test images to tell" in shown


def test_a_tower_that_is_not_there_is_one_sentence(stack: Stack) -> None:
    refused = stack.command("towers", "999", check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "999" in refused.stderr


def test_a_training_that_ended_is_left_as_it_is(stack: Stack, trained: dict[str, Any]) -> None:
    stopped = json.loads(stack.command("stop", trained["job"], "--json").stdout)
    assert stopped["state"] == "finished"
    refused = stack.command("stop", "0b9f3c52-0c8e-4b62-8c0e-0e4ed1a2a6d1", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_plots_and_detach_exclude_each_other(stack: Stack, folder: Path) -> None:
    refused = stack.command("train", "--detach", "--plots", str(folder), check=False)
    assert refused.returncode == 2
    assert "--detach" in refused.stderr
